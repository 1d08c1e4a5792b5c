terraform {
  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = ">= 1.45"
    }
  }
}

resource "hcloud_server" "web" {
  for_each    = var.servers
  name        = each.key
  image       = "debian-12"
  server_type = "cax11"
  user_data   = module.monsys[each.key].cloud_init

  lifecycle {
    # A new token would replace every server, and enrolled servers do not need it.
    ignore_changes = [user_data]
  }
}
