# What a host is to be at the hub, and how it reaches it. The secret is in variables_token.tf, where
# the agent is fetched from in variables_source.tf, and the rest of the user data in
# variables_user_data.tf.

variable "tags" {
  description = "The host's own tags. The token's default tags come first, these follow, and duplicates are dropped."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    # Every character counts as one, as it does for the agent: length() counts those that one sees.
    condition     = alltrue([for tag in var.tags : length(regexall("(?s).", tag)) <= 128 && length(trimspace(tag)) > 0])
    error_message = "A tag has 1 to 128 characters, and one of these has none or more. Leave empty ones out: tags = compact([...])."
  }
  validation {
    condition     = alltrue([for tag in var.tags : !can(regex("[,\\p{Cc}\\x{FFFE}\\x{FFFF}]", tag))])
    error_message = "A tag has no comma, line break or other control character. To make tags of a list with commas: tags = split(\",\", var.list)."
  }
  validation {
    condition     = length(distinct(var.tags)) <= 64
    error_message = "A host has at most 64 tags of its own."
  }
}

variable "role" {
  description = "The host's role. It wins over the token's default role, which holds when this is null or empty."
  type        = string
  default     = null

  validation {
    condition     = var.role == null ? true : length(regexall("(?s).", var.role)) <= 128 && !can(regex("[\\p{Cc}\\x{FFFE}\\x{FFFF}]", var.role))
    error_message = "A role has at most 128 characters, and no line break or other control character."
  }
}

variable "hub_url" {
  description = "Where the hub is, such as `https://hub.example.com`. Null is what install.sh says, `https://api.monsys.ai` unless a hub served it."
  type        = string
  default     = null

  validation {
    condition     = var.hub_url == null ? true : can(regex("^https://[^/?#@\\s\\p{Cc}]+(/[^?#\\s\\p{Cc}]*)?$", var.hub_url))
    error_message = "hub_url is https://HOST, with a port or a path if need be, and without user name, password, query or space. A token never travels over plain http."
  }
}

variable "ca_pem" {
  description = "CA certificates of a hub that no public CA vouches for, in PEM: then the only ones that the agent trusts. They are laid at `/etc/monsys/hub-ca.pem`."
  type        = string
  default     = null

  validation {
    condition     = var.ca_pem == null ? true : can(regex("-----BEGIN CERTIFICATE-----[\\s\\S]+-----END CERTIFICATE-----", var.ca_pem))
    error_message = "ca_pem is the text of the certificates, not the name of their file: ca_pem = file(\"hub-ca.pem\")."
  }
  validation {
    condition     = var.ca_pem == null ? true : !can(regex("[^\\r\\n -~]|END_OF_", var.ca_pem))
    error_message = "ca_pem has more in it than certificates. Leave out all but the lines from BEGIN CERTIFICATE to END CERTIFICATE."
  }
  validation {
    condition     = var.ca_pem == null ? true : !can(regex("PRIVATE KEY", var.ca_pem))
    error_message = "ca_pem holds a private key, which belongs on no host but the CA's. Give the certificates alone."
  }
}

variable "ca_pin" {
  description = "`sha256:HEX` of the public key (SPKI) of a CA that the hub's chain must lead to. Enough alone when the hub sends that CA along."
  type        = string
  default     = null

  validation {
    condition     = var.ca_pin == null ? true : can(regex("^sha256:[0-9A-Fa-f]{64}$", var.ca_pin))
    error_message = "ca_pin is sha256: and 64 hexadecimal digits. To have them: openssl x509 -in hub-ca.pem -pubkey -noout | openssl pkey -pubin -outform DER | openssl sha256"
  }
}

variable "proxy" {
  description = "Proxy for https, for the download and for the hub: `http://[USER:PASSWORD@]HOST:PORT`."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.proxy == null ? true : can(regex("^https?://[^\\s\\p{Cc}/]+/?$", var.proxy))
    error_message = "proxy is http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT."
  }
}

variable "no_proxy" {
  description = "Hosts and networks that are reached without the proxy."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for host in var.no_proxy : can(regex("^[^,\\s\\p{Cc}]+$", host))])
    error_message = "no_proxy is a list of names, addresses and networks, without spaces or commas: [\"localhost\", \"10.0.0.0/8\", \".internal\"]."
  }
}

variable "splay" {
  description = "Longest random wait before a host asks the hub for the first time, such as `2m`, so that a thousand hosts do not come at once."
  type        = string
  default     = null

  validation {
    condition     = var.splay == null ? true : can(regex("^([0-9]+(s|m|h)?|([0-9]+h)?([0-9]+m)?[0-9]+[smh])$", var.splay))
    error_message = "splay is a duration: 90s, 5m or 1h30m."
  }
}

variable "wait" {
  description = "How long a host tries to reach the hub before it gives up, such as `15m`. Null is the agent's five minutes."
  type        = string
  default     = null

  validation {
    condition     = var.wait == null ? true : can(regex("^([0-9]+(s|m|h)?|([0-9]+h)?([0-9]+m)?[0-9]+[smh])$", var.wait))
    error_message = "wait is a duration: 90s, 5m or 1h30m."
  }
}
