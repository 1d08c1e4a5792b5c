# An autoscaling group: all instances have the same user data, so nothing in it counts them. What
# tells them apart is known on the host: the availability zone is a tag. The token stays in SSM, and
# neither Terraform's state nor the user data holds it.

variable "region" {
  description = "Where the group and the parameter are."
  type        = string
  default     = "eu-west-1"
}

variable "token_parameter" {
  description = "Name of the SecureString with the enrolment token. Made by hand, so that Terraform does not see it: docs/secrets.md."
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
