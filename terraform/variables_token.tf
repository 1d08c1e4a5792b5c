# The secret: itself, or where the host gets it from.

variable "monsys_token" {
  description = "Enrolment token (`enrl_…`) for all hosts, or the per-agent token (`agt_…`, `ms_…`) of one. Terraform keeps it in state, plan and user data: `monsys_token_from` keeps it out of all three."
  type        = string
  default     = null
  sensitive   = true

  validation {
    condition     = var.monsys_token == null ? true : can(regex("^(enrl|agt|ms)_[!-~]+$", trimspace(var.monsys_token)))
    error_message = "monsys_token is an enrolment token, which begins with enrl_, or a per-agent token, which begins with agt_ or ms_; with no space inside. Make one in the dashboard: Settings, Enrolment tokens."
  }
  validation {
    condition     = var.monsys_token == null ? true : length(var.monsys_token) <= 512
    error_message = "monsys_token has at most 512 characters."
  }
}

variable "monsys_token_from" {
  description = "Where the host itself gets the token from at its first boot, so that Terraform never sees it. Exactly one of these; docs/secrets.md has the least policy that each needs."
  default     = null

  type = object({
    # Parameter of AWS Systems Manager, a SecureString, by the instance's role. Takes the AWS CLI.
    aws_ssm_parameter = optional(object({ name = string, region = string }))
    # Secret of AWS Secrets Manager, a plain string, by the instance's role. Takes the AWS CLI.
    aws_secretsmanager = optional(object({ secret_id = string, region = string }))
    # Secret of Google Secret Manager, by the instance's service account. Takes curl.
    gcp_secret = optional(object({ project = string, secret = string, version = optional(string, "latest") }))
    # Secret of an Azure key vault, by the machine's managed identity. Takes curl.
    azure_key_vault = optional(object({ vault = string, secret = string, client_id = optional(string) }))
    # Field of a secret of HashiCorp Vault, which the host logs in to. Takes Vault's own program.
    vault = optional(object({
      path      = string
      address   = optional(string)
      namespace = optional(string)
      field     = optional(string, "token")
      login     = optional(object({ method = string, role = string }))
    }))
    # Any command whose output is the token; /bin/sh runs it.
    command = optional(string)
    # A file that is on the host when it boots.
    file = optional(string)
  })

  validation {
    condition     = var.monsys_token_from == null ? true : length([for way in values(var.monsys_token_from) : true if way != null]) == 1
    error_message = "monsys_token_from names exactly one way: aws_ssm_parameter, aws_secretsmanager, gcp_secret, azure_key_vault, vault, command or file."
  }
  validation {
    # A token is base64url, or hex, behind its prefix: letters of both cases, or 16 letters and digits in
    # a row. A name such as enrl_token_of_eu-west-1 is neither.
    condition = length([
      for run in regexall("(?:(?:enrl|agt)_[0-9A-Za-z_-]{16,}|(?:^|[^0-9A-Za-z])ms_[0-9A-Za-z_-]{32,})", replace(jsonencode(var.monsys_token_from), "/\\\\(u[0-9a-f]{4}|.)/", " ")) : true
      if can(regex("(?:enrl|agt|ms)_[^a-z]*[a-z]", run)) && can(regex("[A-Z]", run)) || can(regex("(?:enrl|agt|ms)_[A-Za-z]{0,15}[0-9]", run)) && can(regex("(?:enrl|agt|ms)_[0-9A-Za-z]{16}", run))
    ]) == 0
    error_message = "monsys_token_from holds a token. It only says where the token is, and is not kept secret; the token itself goes into monsys_token."
  }
  validation {
    # As JSON has them, once its escaped backslashes are out of the way.
    condition     = !can(regex("\\\\(n|r|t|b|f|u00[01])", replace(jsonencode(var.monsys_token_from), "\\\\", "")))
    error_message = "monsys_token_from has a line break or another control character. A command goes onto one line: join commands by && or a semicolon."
  }
  validation {
    condition     = try(var.monsys_token_from.file, null) == null ? true : can(regex("^/", var.monsys_token_from.file))
    error_message = "monsys_token_from.file is a path on the host, which begins with a slash."
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
    error_message = "monsys_token_from.azure_key_vault has a vault's name, or its URL in another cloud than the public one, the secret's name, and the client_id (a UUID) of a user-assigned identity when there is one: { vault = \"prod-secrets\", secret = \"monsys-enrolment\" }."
  }
}
