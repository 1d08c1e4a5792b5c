# The command that gets the token on the host, for each source in monsys_token_from. No secret is an
# argument of a process: curl reads its headers from a pipe. With -q as its first argument, curl reads no
# ~/.curlrc.

locals {
  from = var.monsys_token_from
  ssm  = try(local.from.aws_ssm_parameter, null)
  asm  = try(local.from.aws_secretsmanager, null)
  gcp  = try(local.from.gcp_secret, null)
  key  = try(local.from.azure_key_vault, null)
  hcv  = try(local.from.vault, null)

  # Quotes each word for the shell: '…'.
  words = compact(flatten([for way in [local.ssm, local.asm, local.hcv] : way == null ? [] : [
    for word in concat(values(way), try(values(way.login), [])) : try(tostring(word), null)
  ]]))
  quoted = { for word in local.words : word => "'${replace(word, "'", "'\\''")}'" }

  token_command = one(compact([
    try(local.from.command, null),

    local.ssm == null ? null : join(" ", [
      "aws ssm get-parameter --region ${local.quoted[local.ssm.region]}",
      "--name ${local.quoted[local.ssm.name]} --with-decryption",
      "--query Parameter.Value --output text",
    ]),

    local.asm == null ? null : join(" ", [
      "aws secretsmanager get-secret-value --region ${local.quoted[local.asm.region]}",
      "--secret-id ${local.quoted[local.asm.secret_id]}",
      "--query SecretString --output text",
    ]),

    local.gcp == null ? null : join(" && ", [
      join("", [
        "answer=$(curl -q -sSf --noproxy '*' -H Metadata-Flavor:Google ",
        "\"http://$${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1",
        "/instance/service-accounts/default/token\")",
      ]),
      join("", [
        "answer=$(${local.as_bearer} | curl -q -sSf -K - ",
        "\"$${CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER:-https://secretmanager.googleapis.com/}",
        "v1/projects/${local.gcp.project}/secrets/${local.gcp.secret}/versions/${local.gcp.version}:access\")",
      ]),
      "printf %s \"$answer\" | tr -d '\\n' | sed -n 's/.*\"data\" *: *\"\\([^\"]*\\)\".*/\\1/p' | base64 -d",
    ]),

    local.key == null ? null : join(" && ", [
      join("", [
        "answer=$(curl -q -sSf --noproxy '*' -H Metadata:true ",
        "\"$${AZURE_POD_IDENTITY_AUTHORITY_HOST:-http://169.254.169.254}/metadata/identity/oauth2/token",
        "?api-version=2018-02-01&resource=https://${local.key_audience}",
        local.key.client_id == null ? "" : "&client_id=${local.key.client_id}", "\")",
      ]),
      join("", [
        "answer=$(${local.as_bearer} | curl -q -sSf -K - ",
        "'${local.key_url}/secrets/${local.key.secret}?api-version=7.4')",
      ]),
      "printf %s \"$answer\" | tr -d '\\n' | sed -n 's/.*\"value\" *: *\"\\([^\"]*\\)\".*/\\1/p'",
    ]),

    local.hcv == null ? null : join(" && ", compact([
      local.hcv.address == null ? "" : "export VAULT_ADDR=${local.quoted[local.hcv.address]}",
      local.hcv.namespace == null ? "" : "export VAULT_NAMESPACE=${local.quoted[local.hcv.namespace]}",
      local.hcv.login == null ? "" : join(" ", [
        "VAULT_TOKEN=$(vault login -token-only -method=${local.quoted[local.hcv.login.method]}",
        "role=${local.quoted[local.hcv.login.role]}) && export VAULT_TOKEN",
      ]),
      "vault kv get -field=${local.quoted[local.hcv.field]} ${local.quoted[local.hcv.path]}",
    ])),
  ]))

  # The response of a cloud's metadata service becomes a header in curl's configuration.
  as_bearer = "printf %s \"$answer\" | tr -d '\\n' | sed -n 's/.*\"access_token\" *: *\"\\([^\"]*\\)\".*/header = \"Authorization: Bearer \\1\"/p'"

  key_url      = local.key == null ? null : startswith(local.key.vault, "https://") ? trimsuffix(local.key.vault, "/") : "https://${local.key.vault}.vault.azure.net"
  key_audience = try(regex("[.](vault[.][a-z.]+)", local.key_url)[0], "vault.azure.net")
}
