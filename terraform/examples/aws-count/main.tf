# 50 instances share one secret. Each has its own credential, and the tags of the token and of the module:
# prod,eu-west,web,shard-N.
#
# The module has the count too, because count.index is undefined in a module block without one.

variable "instances" {
  description = "Number of instances."
  type        = number
  default     = 50
}

variable "monsys_enrolment_token" {
  description = "The enrolment token, from Vault or SOPS. It is in Terraform's state; the example aws-asg avoids this."
  type        = string
  sensitive   = true
}

module "monsys" {
  # In your configuration: source = "git::https://github.com/gotrust/monsys.git//terraform?ref=v0.1.0"
  source = "../.."
  count  = var.instances

  monsys_token = var.monsys_enrolment_token
  tags         = ["shard-${count.index}"]
  role         = "web"
}

# The user data of the instances. To print it: terraform output -json user_data
output "user_data" {
  description = "The user data of each instance, in order."
  value       = module.monsys[*].cloud_init
  sensitive   = true
}
