# Machines at Azure. The token stays in a key vault. All machines read it with one shared identity, which
# must exist before the first machine boots.

variable "key_vault" {
  description = "Name of the key vault with the secret monsys-enrolment."
  type        = string
  default     = "prod-secrets"
}

variable "identity_client_id" {
  description = "Client id of the user-assigned identity of the machines."
  type        = string
  default     = "00000000-0000-0000-0000-000000000001"
}

variable "machines" {
  description = "Number of machines."
  type        = number
  default     = 3
}

module "monsys" {
  source = "../.."
  count  = var.machines

  monsys_token_from = { azure_key_vault = {
    vault     = var.key_vault
    secret    = "monsys-enrolment"
    client_id = var.identity_client_id
  } }
  tags            = ["shard-${count.index}"]
  role            = "web"
  user_data_limit = 49152 # 64 KiB of base64
}

output "user_data" {
  description = "The user data of each machine, in order."
  value       = module.monsys[*].cloud_init
  sensitive   = true
}
