# An autoscaling group: all instances have the same user data, so it cannot number them. Only the host
# knows its differences: the availability zone is a tag. The token stays in SSM, and neither Terraform's
# state nor the user data contains it.

variable "region" {
  description = "Region of the group and the parameter."
  type        = string
  default     = "eu-west-1"
}

variable "token_parameter" {
  description = "Name of the SecureString with the enrolment token. Create it manually, so that Terraform never has it: docs/secrets.md."
  type        = string
  default     = "/monsys/enrolment"
}

module "monsys" {
  source = "../.."

  monsys_token_from     = { aws_ssm_parameter = { name = var.token_parameter, region = var.region } }
  tags                  = ["asg"]
  availability_zone_tag = true
  role                  = "web"
  splay                 = "30s"
}

output "user_data" {
  description = "The user data of every instance."
  value       = module.monsys.cloud_init
  sensitive   = true
}
