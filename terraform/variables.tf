# The properties of a host at the hub, and its connection to the hub. The secret is in variables_token.tf,
# the download of the agent in variables_source.tf, and the rest of the user data in
# variables_user_data.tf.

variable "tags" {
  description = "The host's own tags. The token's default tags come first, these follow, and duplicates are dropped."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    # Counts code points, as the agent does. length() counts visible characters.
    condition     = alltrue([for tag in var.tags : length(regexall("(?s).", tag)) <= 128 && length(trimspace(tag)) > 0])
    error_message = "A tag has 1 to 128 characters, and one of these tags is empty or longer. To remove empty tags: tags = compact([...])."
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
  description = "The host's role. It overrides the token's default role. Null or empty selects the default role."
  type        = string
  default     = null

  validation {
    condition     = var.role == null ? true : length(regexall("(?s).", var.role)) <= 128 && !can(regex("[\\p{Cc}\\x{FFFE}\\x{FFFF}]", var.role))
    error_message = "A role has at most 128 characters, and no line break or other control character."
  }
}

variable "hub_url" {
  description = "URL of the hub, such as `https://hub.example.com`. If null, the hub of install.sh: `https://api.monsys.ai`, or the hub that served install.sh."
  type        = string
  default     = null

  validation {
    condition     = var.hub_url == null ? true : can(regex("^https://[^/?#@\\s\\p{Cc}]+(/[^?#\\s\\p{Cc}]*)?$", var.hub_url))
    error_message = "hub_url is https://HOST, with an optional port and path, and without user name, password, query or space. A token is never sent over plain http."
  }
}

variable "ca_pem" {
  description = "CA certificates of a hub without a public certificate, in PEM. The agent then trusts only these. They are written to `/etc/monsys/hub-ca.pem`."
  type        = string
  default     = null

  validation {
    condition     = var.ca_pem == null ? true : can(regex("-----BEGIN CERTIFICATE-----[\\s\\S]+-----END CERTIFICATE-----", var.ca_pem))
    error_message = "ca_pem is the text of the certificates, not the name of their file: ca_pem = file(\"hub-ca.pem\")."
  }
  validation {
    condition     = var.ca_pem == null ? true : !can(regex("[^\\r\\n -~]|END_OF_", var.ca_pem))
    error_message = "ca_pem contains more than certificates. Keep only the lines from BEGIN CERTIFICATE to END CERTIFICATE."
  }
  validation {
    condition     = var.ca_pem == null ? true : !can(regex("PRIVATE KEY", var.ca_pem))
    error_message = "ca_pem contains a private key, which must stay on the CA's host. Give only the certificates."
  }
}

variable "ca_pin" {
  description = "`sha256:HEX` of the public key (SPKI) of a CA that must be in the hub's chain. It is enough alone when the hub sends that CA."
  type        = string
  default     = null

  validation {
    condition     = var.ca_pin == null ? true : can(regex("^sha256:[0-9A-Fa-f]{64}$", var.ca_pin))
    error_message = "ca_pin is sha256: and 64 hexadecimal digits. To compute them: openssl x509 -in hub-ca.pem -pubkey -noout | openssl pkey -pubin -outform DER | openssl sha256"
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
  description = "Longest random wait before a host asks the hub for the first time, such as `2m`, so that a thousand hosts do not start at once."
  type        = string
  default     = null

  validation {
    condition     = var.splay == null ? true : can(regex("^([0-9]+(s|m|h)?|([0-9]+h)?([0-9]+m)?[0-9]+[smh])$", var.splay))
    error_message = "splay is a duration: 90s, 5m or 1h30m."
  }
}

variable "wait" {
  description = "How long a host tries the source of its token and the hub before it gives up, such as `15m`. If null, the agent's default of five minutes."
  type        = string
  default     = null

  validation {
    condition     = var.wait == null ? true : can(regex("^([0-9]+(s|m|h)?|([0-9]+h)?([0-9]+m)?[0-9]+[smh])$", var.wait))
    error_message = "wait is a duration: 90s, 5m or 1h30m."
  }
}
