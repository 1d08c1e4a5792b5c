# The command that gets the token on the host, for each source.

run "aws_ssm_parameter" {
  command = plan
  variables {
    monsys_token_from = { aws_ssm_parameter = { name = "/monsys/it's", region = "eu-west-1" } }
  }
  assert {
    condition = strcontains(yamldecode(output.cloud_init).write_files[0].content, join("\n", [
      "ARGUMENT=--token-command",
      "ARGUMENT=aws ssm get-parameter --region 'eu-west-1' --name '/monsys/it'\\''s' --with-decryption --query Parameter.Value --output text",
    ]))
    error_message = "the command has to be one argument"
  }
  assert {
    condition     = !strcontains(output.cloud_init, "\\nMONSYS_TOKEN=")
    error_message = "the document contains a token"
  }
}

run "aws_secretsmanager" {
  command = plan
  variables {
    monsys_token_from = { aws_secretsmanager = { secret_id = "monsys/enrolment", region = "eu-west-1" } }
  }
  assert {
    condition     = strcontains(output.install_script, "\nARGUMENT=aws secretsmanager get-secret-value --region 'eu-west-1' --secret-id 'monsys/enrolment' --query SecretString --output text\n")
    error_message = "the command has to print the plain string of the secret"
  }
}

run "gcp_secret" {
  command = plan
  variables {
    monsys_token_from = { gcp_secret = { project = "prod-1234", secret = "monsys-enrolment" } }
  }
  assert {
    condition     = strcontains(output.install_script, "v1/projects/prod-1234/secrets/monsys-enrolment/versions/latest:access\"")
    error_message = "the default is the newest version"
  }
}

run "azure_key_vault" {
  command = plan
  variables {
    monsys_token_from = { azure_key_vault = { vault = "prod-secrets", secret = "monsys-enrolment", client_id = "00000000-0000-0000-0000-000000000001" } }
  }
  assert {
    condition     = strcontains(output.install_script, "&resource=https://vault.azure.net&client_id=00000000-0000-0000-0000-000000000001\"") && strcontains(output.install_script, "'https://prod-secrets.vault.azure.net/secrets/monsys-enrolment?api-version=7.4'")
    error_message = "the command has to use the given identity and vault"
  }
}

run "azure_key_vault_in_another_cloud" {
  command = plan
  variables {
    monsys_token_from = { azure_key_vault = { vault = "https://prod.vault.azure.cn/", secret = "monsys-enrolment" } }
  }
  assert {
    condition     = strcontains(output.install_script, "&resource=https://vault.azure.cn\"") && strcontains(output.install_script, "'https://prod.vault.azure.cn/secrets/")
    error_message = "the audience has to be that cloud's vaults"
  }
}

run "vault" {
  command = plan
  variables {
    monsys_token_from = { vault = { path = "secret/monsys/enrolment", address = "https://vault.example.com", login = { method = "aws", role = "monsys" } } }
  }
  assert {
    condition     = strcontains(output.install_script, "\nARGUMENT=export VAULT_ADDR='https://vault.example.com' && VAULT_TOKEN=$(vault login -token-only -method='aws' role='monsys') && export VAULT_TOKEN && vault kv get -field='token' 'secret/monsys/enrolment'\n")
    error_message = "the host has to log in and read the field"
  }
}

run "vault_without_a_login" {
  command = plan
  variables {
    monsys_token_from = { vault = { path = "secret/monsys/enrolment" } }
  }
  assert {
    condition     = strcontains(output.install_script, "\nARGUMENT=vault kv get -field='token' 'secret/monsys/enrolment'\n")
    error_message = "the command has to be only the read"
  }
}

run "command" {
  command = plan
  variables {
    monsys_token_from = { command = "pass show 'monsys' | head -n 1; printf '\\n'" }
  }
  assert {
    condition     = strcontains(output.install_script, "\nARGUMENT=pass show 'monsys' | head -n 1; printf '\\n'\n")
    error_message = "the command has to be unchanged"
  }
}

run "file" {
  command = plan
  variables {
    monsys_token_from = { file = "/run/credentials/monsys token" }
  }
  assert {
    condition     = strcontains(output.install_script, "\nMONSYS_TOKEN_FILE=/run/credentials/monsys token\n")
    error_message = "the agent has to read the file"
  }
}

run "an_image" {
  command = plan
  variables {
    defer             = true
    monsys_token_from = { command = "pass show monsys" }
  }
  assert {
    condition     = strcontains(output.install_script, "\nARGUMENT=--defer\n")
    error_message = "the hosts made from the image have to enrol"
  }
}
