# 50 instances, one secret. Each comes up with a credential of its own and with the token's tags and
# its own: prod,eu-west,web,shard-N.
#
# The module has the count too: count.index means nothing in a module block without one.

variable "instances" {
  description = "How many instances."
  type        = number
  default     = 50
}

variable "monsys_enrolment_token" {
  description = "The enrolment token, from Vault or SOPS. It is in Terraform's state; aws-asg shows how it is not."
  type        = string
  sensitive   = true
}

module "monsys" {
  # Elsewhere: source = "git::https://github.com/gotrust/monsys.git//terraform?ref=v0.1.0"
  source = "../.."
  count  = var.instances

  monsys_token = var.monsys_enrolment_token
  tags         = ["shard-${count.index}"]
  role         = "web"
}

# What goes to the instances. Only for a look: terraform output -json user_data
output "user_data" {
  description = "The user data of each instance, in order."
  value       = module.monsys[*].cloud_init
  sensitive   = true
}
