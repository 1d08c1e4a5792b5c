# Servers at Hetzner, by name: for_each, so that you can remove one without new numbers for the others.
# Hetzner has no secret store, so the token is in the user data. The token has a use limit and an expiry.

variable "servers" {
  description = "The servers with their tags."
  type        = map(list(string))
  default = {
    web-1 = ["shard-1"]
    web-2 = ["shard-2"]
  }
}

variable "monsys_enrolment_token" {
  description = "The enrolment token."
  type        = string
  sensitive   = true
}

module "monsys" {
  source   = "../.."
  for_each = var.servers

  monsys_token    = var.monsys_enrolment_token
  tags            = each.value
  role            = "web"
  user_data_limit = 32768
}

output "user_data" {
  description = "The user data of each server, by name."
  value       = { for name, agent in module.monsys : name => agent.cloud_init }
  sensitive   = true
}
