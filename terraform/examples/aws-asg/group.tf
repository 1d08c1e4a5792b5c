terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "ami" {
  description = "Amazon Linux, or another image with cloud-init and the AWS CLI."
  type        = string
}

variable "subnets" {
  description = "Subnets of the group, one in each availability zone."
  type        = list(string)
}

data "aws_caller_identity" "this" {}

resource "aws_iam_role" "web" {
  name_prefix = "web-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ec2.amazonaws.com" }
    }]
  })
}

# The minimal policy of a host: reading this one parameter. Your own key needs kms:Decrypt too.
resource "aws_iam_role_policy" "token" {
  name_prefix = "monsys-token-"
  role        = aws_iam_role.web.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "ssm:GetParameter"
      Resource = "arn:aws:ssm:${var.region}:${data.aws_caller_identity.this.account_id}:parameter/${trimprefix(var.token_parameter, "/")}"
    }]
  })
}

resource "aws_iam_instance_profile" "web" {
  name_prefix = "web-"
  role        = aws_iam_role.web.name
}

resource "aws_launch_template" "web" {
  name_prefix   = "web-"
  image_id      = var.ami
  instance_type = "t4g.small"
  user_data     = module.monsys.cloud_init_base64

  iam_instance_profile {
    arn = aws_iam_instance_profile.web.arn
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }
}

resource "aws_autoscaling_group" "web" {
  name_prefix         = "web-"
  min_size            = 2
  max_size            = 100
  vpc_zone_identifier = var.subnets

  launch_template {
    id      = aws_launch_template.web.id
    version = aws_launch_template.web.latest_version
  }

  # The policy first: nothing in this block refers to it, and a host reads the token as soon as it boots.
  depends_on = [aws_iam_role_policy.token]
}
