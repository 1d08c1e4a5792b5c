terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "ami" {
  description = "An image with cloud-init, such as Amazon Linux, Ubuntu or Debian."
  type        = string
}

resource "aws_instance" "web" {
  count         = var.instances
  ami           = var.ami
  instance_type = "t4g.small"
  user_data     = module.monsys[count.index].cloud_init

  # Clients of the metadata service can read the user data. So it needs sessions, and excludes containers.
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  lifecycle {
    # A new token would stop and start every instance, and enrolled instances do not need it.
    ignore_changes = [user_data]
  }
}
