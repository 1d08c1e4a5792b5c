# The source of the agent, and its version and checksums.

variable "agent_version" {
  description = "Version to install, such as `0.1.0`. If null, the version of install.sh."
  type        = string
  default     = null

  validation {
    condition     = var.agent_version == null ? true : can(regex("^[0-9]+\\.[0-9]+\\.[0-9]+(-[0-9A-Za-z.-]+)?$", var.agent_version))
    error_message = "agent_version is three numbers, such as 0.1.0, without a leading v."
  }
}

variable "checksums" {
  description = "SHA-256 of the agent's binary by architecture: `{ x86_64 = \"…\", aarch64 = \"…\" }`, from the release's SHA256SUMS. A host of another architecture, or with another binary, stops."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setsubtract(keys(var.checksums), ["x86_64", "aarch64"])) == 0
    error_message = "checksums has the keys x86_64 and aarch64, as the release names its files."
  }
  validation {
    condition     = alltrue([for sum in values(var.checksums) : can(regex("^[0-9a-f]{64}$", sum))])
    error_message = "A checksum is 64 lower-case hexadecimal digits. They are in the release's SHA256SUMS."
  }
}

variable "download_url" {
  description = "Folder with the files of a release, if hosts cannot reach `https://get.monsys.ai`: your mirror, or the hub's own `https://HUB/dist`. `file:///…` is a folder on the host."
  type        = string
  default     = null

  validation {
    condition     = var.download_url == null ? true : can(regex("^(https://[^/?#@\\s\\p{Cc}]+(/[^?#\\s\\p{Cc}]*)?|file:///[^?#\\s\\p{Cc}]*)$", var.download_url))
    error_message = "download_url is https://HOST/FOLDER or file:///FOLDER, without user name, password, query or space."
  }
}

variable "install_url" {
  description = "URL of install.sh. If null, the folder with the release's files, which is `download_url` if set. A hub serves its own as `https://HUB/install.sh`."
  type        = string
  default     = null

  validation {
    condition     = var.install_url == null ? true : can(regex("^(https://[^/?#@\\s\\p{Cc}]+|file://)/[^?#\\s\\p{Cc}]*$", var.install_url))
    error_message = "install_url is https://HOST/FILE or file:///FILE, without user name, password, query or space."
  }
}

variable "install_sha256" {
  description = "SHA-256 that install.sh must have. install.sh contains the checksums of the binaries of its release, so this checksum pins all of them."
  type        = string
  default     = null

  validation {
    condition     = var.install_sha256 == null ? true : can(regex("^[0-9a-f]{64}$", var.install_sha256))
    error_message = "install_sha256 is 64 lower-case hexadecimal digits: sha256sum install.sh"
  }
}
