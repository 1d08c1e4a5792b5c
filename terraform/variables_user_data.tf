# The user data besides the agent's part.

variable "defer" {
  description = "For golden images: installs and prepares the agent. Each host made from the image enrols at its first boot. Needs `monsys_token_from`, because an image contains no secret."
  type        = bool
  default     = false
  nullable    = false
}

variable "availability_zone_tag" {
  description = "Adds the availability zone as a tag, if cloud-init knows it. The user data becomes a jinja template, and `install_script` is null."
  type        = bool
  default     = false
  nullable    = false
}

variable "extra_runcmd" {
  description = "Your own commands, which run after the agent's part, also if it fails. Each is a string for the shell, or a list of words."
  type        = any
  default     = []
  nullable    = false

  validation {
    condition     = can([for command in var.extra_runcmd : try([tostring(command)], [for word in command : tostring(word)])])
    error_message = "extra_runcmd is a list; each command in it is a string, or a list of words: [\"echo done\", [\"systemctl\", \"restart\", \"app\"]]."
  }
}

variable "extra_cloud_config" {
  description = "Your own cloud-config for the same document, such as `{ packages = [\"awscli\"] }`. The module adds to its `bootcmd`, `write_files` and `runcmd`, and does not change the rest."
  type        = any
  default     = {}
  nullable    = false

  validation {
    condition     = can(keys(var.extra_cloud_config))
    error_message = "extra_cloud_config is an object: { packages = [\"awscli\"] }. For text in YAML: extra_cloud_config = yamldecode(file(\"my.yaml\"))."
  }
}

variable "user_data_limit" {
  description = "Limit of the cloud for user data, in bytes: 16,384 at AWS, 32,768 at Hetzner, 262,144 at Google. At Azure, 65,535 of base64."
  type        = number
  default     = 16384
  nullable    = false
}

variable "user_data_gzip" {
  description = "True if you use `cloud_init_gzip_base64`: the limit then applies to that form."
  type        = bool
  default     = false
  nullable    = false
}
