# Instances at Google. The token stays in Secret Manager. Each instance reads it with its service
# account.

variable "project" {
  description = "Id of the project of the instances and of the secret."
  type        = string
  default     = "prod-1234"
}

variable "instances" {
  description = "Number of instances."
  type        = number
  default     = 3
}

module "monsys" {
  source = "../.."
  count  = var.instances

  monsys_token_from = { gcp_secret = { project = var.project, secret = "monsys-enrolment" } }
  tags              = ["shard-${count.index}"]
  role              = "web"
  user_data_limit   = 262144
}

output "user_data" {
  description = "The user data of each instance, in order."
  value       = module.monsys[*].cloud_init
  sensitive   = true
}
