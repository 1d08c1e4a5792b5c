# The secret, or the source from which the host gets it.

variable "monsys_token" {
  description = "Enrolment token (`enrl_…`) for all hosts, or the per-agent token (`agt_…`, `ms_…`) of one. Terraform stores it in state, plan and user data. `monsys_token_from` avoids all three. Terraform refuses an ephemeral value here, because user data is a part of the state."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.monsys_token == null ? true : can(regex("^(enrl|agt|ms)_[!-~]+$", trimspace(var.monsys_token)))
    error_message = "monsys_token is an enrolment token, which begins with enrl_, or a per-agent token, which begins with agt_ or ms_. It contains no space. Make a token in the dashboard: Settings, Enrolment tokens."
  }
  validation {
    condition     = var.monsys_token == null ? true : length(var.monsys_token) <= 512
    error_message = "monsys_token has at most 512 characters."
  }
}

variable "monsys_token_from" {
  description = "Source from which the host itself gets the token at its first boot, so that Terraform never has it. Set exactly one. docs/secrets.md has the minimal policy of each."
  default     = null

  type = object({
    # Parameter of AWS Systems Manager, a SecureString, by the instance's role. Needs the AWS CLI.
    aws_ssm_parameter = optional(object({ name = string, region = string }))
    # Secret of AWS Secrets Manager, a plain string, by the instance's role. Needs the AWS CLI.
    aws_secretsmanager = optional(object({ secret_id = string, region = string }))
    # Secret of Google Secret Manager, by the instance's service account. Needs curl.
    gcp_secret = optional(object({ project = string, secret = string, version = optional(string, "latest") }))
    # Secret of an Azure key vault, by the machine's managed identity. Needs curl.
    azure_key_vault = optional(object({ vault = string, secret = string, client_id = optional(string) }))
    # Field of a secret of HashiCorp Vault, to which the host logs in. Needs Vault's own program.
    vault = optional(object({
      path      = string
      address   = optional(string)
      namespace = optional(string)
      field     = optional(string, "token")
      login     = optional(object({ method = string, role = string }))
    }))
    # A command whose output is the token; /bin/sh runs the command.
    command = optional(string)
    # A file that is on the host when it boots.
    file = optional(string)
  })

  validation {
    condition     = var.monsys_token_from == null ? true : length([for way in values(var.monsys_token_from) : true if way != null]) == 1
    error_message = "monsys_token_from has exactly one source: aws_ssm_parameter, aws_secretsmanager, gcp_secret, azure_key_vault, vault, command or file."
  }
  validation {
    # After its prefix, a token is base64url or hex: letters of both cases, or 16 letters and digits without
    # a gap. A name such as enrl_token_of_eu-west-1 is neither.
    condition = length([
      for run in regexall("(?:(?:enrl|agt)_[0-9A-Za-z_-]{16,}|(?:^|[^0-9A-Za-z])ms_[0-9A-Za-z_-]{32,})", replace(jsonencode(var.monsys_token_from), "/\\\\(u[0-9a-f]{4}|.)/", " ")) : true
      if can(regex("(?:enrl|agt|ms)_[^a-z]*[a-z]", run)) && can(regex("[A-Z]", run)) || can(regex("(?:enrl|agt|ms)_[A-Za-z]{0,15}[0-9]", run)) && can(regex("(?:enrl|agt|ms)_[0-9A-Za-z]{16}", run))
    ]) == 0
    error_message = "monsys_token_from holds a token. It only names the source of the token, and Terraform shows it. The token itself goes into monsys_token."
  }
  validation {
    # Control characters as in JSON, after its escaped backslashes are removed.
    condition     = !can(regex("\\\\(n|r|t|b|f|u00[01])", replace(jsonencode(var.monsys_token_from), "\\\\", "")))
    error_message = "monsys_token_from has a line break or another control character. A command is one line: join commands with && or a semicolon."
  }
  validation {
    condition     = try(var.monsys_token_from.file, null) == null ? true : can(regex("^/", var.monsys_token_from.file))
    error_message = "monsys_token_from.file is an absolute path on the host, which begins with a slash."
  }
  validation {
    condition = try(var.monsys_token_from.gcp_secret, null) == null ? true : (
      can(regex("^[a-z0-9.:-]+$", var.monsys_token_from.gcp_secret.project)) &&
      can(regex("^[0-9A-Za-z_-]{1,255}$", var.monsys_token_from.gcp_secret.secret)) &&
      can(regex("^[0-9A-Za-z_-]{1,63}$", var.monsys_token_from.gcp_secret.version))
    )
    error_message = "monsys_token_from.gcp_secret has a project's id or number, a secret's name and a version, each alone: { project = \"prod-1234\", secret = \"monsys-enrolment\", version = \"latest\" }."
  }
  validation {
    condition = try(var.monsys_token_from.azure_key_vault, null) == null ? true : (
      can(regex("^([0-9A-Za-z-]{3,24}|https://[0-9A-Za-z.-]+(:[0-9]+)?/?)$", var.monsys_token_from.azure_key_vault.vault)) &&
      can(regex("^[0-9A-Za-z-]{1,127}$", var.monsys_token_from.azure_key_vault.secret)) &&
      can(regex("^[0-9A-Fa-f-]{36}$", coalesce(var.monsys_token_from.azure_key_vault.client_id, "00000000-0000-0000-0000-000000000000")))
    )
    error_message = "monsys_token_from.azure_key_vault has the vault's name (or its URL outside of the public cloud), the secret's name, and optionally the client_id (a UUID) of a user-assigned identity: { vault = \"prod-secrets\", secret = \"monsys-enrolment\" }."
  }
}
