# Servers at Hetzner, by name: for_each, so that one can go without the others being counted anew.
# Hetzner keeps no secrets, so the token is in the user data; it counts its uses and expires.

variable "servers" {
  description = "The servers, and the tags of each."
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
