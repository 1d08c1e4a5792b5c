# The user data around the agent's part.

variable "defer" {
  description = "For golden images: install and prepare, but leave the enrolment to the first boot of each host made from the image. Takes `monsys_token_from`, for an image carries no secret."
  type        = bool
  default     = false
  nullable    = false
}

variable "availability_zone_tag" {
  description = "Adds the availability zone as a tag, where cloud-init knows it. Makes the user data a jinja template; `install_script` is then null."
  type        = bool
  default     = false
  nullable    = false
}

variable "extra_runcmd" {
  description = "Commands of your own to run after the agent's part, whatever came of it: each a string for the shell, or a list of words."
  type        = any
  default     = []
  nullable    = false

  validation {
    condition     = can([for command in var.extra_runcmd : try([tostring(command)], [for word in command : tostring(word)])])
    error_message = "extra_runcmd is a list; each command in it is a string, or a list of words: [\"echo done\", [\"systemctl\", \"restart\", \"app\"]]."
  }
}

variable "extra_cloud_config" {
  description = "Cloud-config of your own to go into the same document, such as `{ packages = [\"awscli\"] }`. Its `write_files` and `runcmd` are added to, all else is taken as it is."
  type        = any
  default     = {}
  nullable    = false

  validation {
    condition     = can(keys(var.extra_cloud_config))
    error_message = "extra_cloud_config is an object: { packages = [\"awscli\"] }. For text in YAML: extra_cloud_config = yamldecode(file(\"my.yaml\"))."
  }
}

variable "user_data_limit" {
  description = "Most bytes that the cloud takes as user data: 16,384 at AWS, 32,768 at Hetzner, 262,144 at Google. Azure takes 65,535 of base64."
  type        = number
  default     = 16384
  nullable    = false
}

variable "user_data_gzip" {
  description = "Say true when it is `cloud_init_gzip_base64` that you use: the limit then is for that form."
  type        = bool
  default     = false
  nullable    = false
}
