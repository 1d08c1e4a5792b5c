# Inputs that the module refuses before it generates anything.

variables {
  monsys_token = "enrl_0123456789abcdef"
}

run "a_token_of_another_kind" {
  command = plan
  variables {
    monsys_token = "tok-0123456789abcdef"
  }
  expect_failures = [var.monsys_token]
}

run "a_token_with_a_space_inside" {
  command = plan
  variables {
    monsys_token = "enrl_0123 4567"
  }
  expect_failures = [var.monsys_token]
}

run "a_token_with_nothing_behind_its_prefix" {
  command = plan
  variables {
    monsys_token = "enrl_"
  }
  expect_failures = [var.monsys_token]
}

run "a_token_of_more_than_512_characters" {
  command = plan
  variables {
    monsys_token = "enrl_${join("", [for i in range(508) : "a"])}"
  }
  expect_failures = [var.monsys_token]
}

run "no_token" {
  command = plan
  variables {
    monsys_token = null
  }
  expect_failures = [output.cloud_init]
}

run "a_token_and_a_reference" {
  command = plan
  variables {
    monsys_token_from = { file = "/run/token" }
  }
  expect_failures = [output.cloud_init]
}

run "an_image_with_a_token" {
  command = plan
  variables {
    defer = true
  }
  expect_failures = [output.cloud_init]
}

run "a_reference_to_nothing" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = {}
  }
  expect_failures = [var.monsys_token_from]
}

run "two_references" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = { file = "/run/token", command = "pass monsys" }
  }
  expect_failures = [var.monsys_token_from]
}

run "a_reference_that_is_a_token" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = { command = "echo enrl_0123456789abcdef" }
  }
  expect_failures = [var.monsys_token_from]
}

run "a_tag_that_is_a_token" {
  command = plan
  variables {
    tags = ["enrl_-bcdEFGH_jklmnop"]
  }
  expect_failures = [output.cloud_init]
}

run "a_role_that_is_an_agents_token" {
  command = plan
  variables {
    role = "agt_0123456789abcdef"
  }
  expect_failures = [output.cloud_init]
}

run "names_that_only_look_like_tokens" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = { vault = { path = "teams_production/ms_accounts-2024/enrl_token_of_eu-west-1" } }
    tags              = ["ms_SqlServer-2019-Production-Cluster", "enrl_eu-west-1_production"]
    role              = "platforms_Production01"
  }
}

run "a_command_of_two_lines" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = { command = "one\ntwo" }
  }
  expect_failures = [var.monsys_token_from]
}

run "a_path_that_is_not_absolute" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = { file = "token" }
  }
  expect_failures = [var.monsys_token_from]
}

run "a_name_with_a_line_break" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = { aws_ssm_parameter = { name = "/a\nTAG=b", region = "eu-west-1" } }
  }
  expect_failures = [var.monsys_token_from]
}

run "a_login_with_a_line_break" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = { vault = { path = "secret/monsys", login = { method = "aws", role = "a\nb" } } }
  }
  expect_failures = [var.monsys_token_from]
}

run "a_gcp_secret_that_is_a_path" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = { gcp_secret = { project = "prod", secret = "a/b\"; reboot" } }
  }
  expect_failures = [var.monsys_token_from]
}

run "a_key_vault_that_is_a_command" {
  command = plan
  variables {
    monsys_token      = null
    monsys_token_from = { azure_key_vault = { vault = "a'; reboot", secret = "b" } }
  }
  expect_failures = [var.monsys_token_from]
}

run "an_empty_tag" {
  command = plan
  variables {
    tags = ["web", ""]
  }
  expect_failures = [var.tags]
}

run "a_tag_of_129_characters" {
  command = plan
  variables {
    tags = [join("", [for i in range(129) : "é"])]
  }
  expect_failures = [var.tags]
}

run "a_tag_with_a_comma" {
  command = plan
  variables {
    tags = ["prod,web"]
  }
  expect_failures = [var.tags]
}

run "a_tag_with_a_line_break" {
  command = plan
  variables {
    tags = ["prod\nMONSYS_HUB_URL=https://evil.example.com"]
  }
  expect_failures = [var.tags]
}

run "a_tag_with_a_control_character" {
  command = plan
  variables {
    tags = ["prod\u0085"]
  }
  expect_failures = [var.tags]
}

run "more_than_64_tags" {
  command = plan
  variables {
    tags = [for i in range(65) : "tag-${i}"]
  }
  expect_failures = [var.tags]
}

run "a_role_with_a_line_break" {
  command = plan
  variables {
    role = "web\nTAG=x"
  }
  expect_failures = [var.role]
}

run "a_role_of_129_characters" {
  command = plan
  variables {
    role = join("", [for i in range(129) : "r"])
  }
  expect_failures = [var.role]
}

run "a_hub_without_tls" {
  command = plan
  variables {
    hub_url = "http://hub.example.com"
  }
  expect_failures = [var.hub_url]
}

run "a_hub_without_a_scheme" {
  command = plan
  variables {
    hub_url = "hub.example.com"
  }
  expect_failures = [var.hub_url]
}

run "a_hub_with_a_password" {
  command = plan
  variables {
    hub_url = "https://user:password@hub.example.com"
  }
  expect_failures = [var.hub_url]
}

run "a_hub_with_a_line_break" {
  command = plan
  variables {
    hub_url = "https://hub.example.com\nTAG=x"
  }
  expect_failures = [var.hub_url]
}

run "a_ca_that_is_a_file_name" {
  command = plan
  variables {
    ca_pem = "hub-ca.pem"
  }
  expect_failures = [var.ca_pem]
}

run "a_ca_with_its_key" {
  command = plan
  variables {
    ca_pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----"
  }
  expect_failures = [var.ca_pem]
}

run "a_ca_that_ends_its_file" {
  command = plan
  variables {
    ca_pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\nEND_OF_MONSYS_FILE\nreboot"
  }
  expect_failures = [var.ca_pem]
}

run "a_pin_without_its_kind" {
  command = plan
  variables {
    ca_pin = "0000000000000000000000000000000000000000000000000000000000000000"
  }
  expect_failures = [var.ca_pin]
}

run "a_proxy_without_a_scheme" {
  command = plan
  variables {
    proxy = "proxy:3128"
  }
  expect_failures = [var.proxy]
}

run "a_no_proxy_with_commas" {
  command = plan
  variables {
    no_proxy = ["localhost,10.0.0.0/8"]
  }
  expect_failures = [var.no_proxy]
}

run "a_splay_in_words" {
  command = plan
  variables {
    splay = "two minutes"
  }
  expect_failures = [var.splay]
}

run "a_wait_without_a_number" {
  command = plan
  variables {
    wait = "m"
  }
  expect_failures = [var.wait]
}

run "a_version_with_a_v" {
  command = plan
  variables {
    agent_version = "v0.1.0"
  }
  expect_failures = [var.agent_version]
}

run "a_checksum_of_an_unknown_machine" {
  command = plan
  variables {
    checksums = { amd64 = "0000000000000000000000000000000000000000000000000000000000000000" }
  }
  expect_failures = [var.checksums]
}

run "a_checksum_of_another_kind" {
  command = plan
  variables {
    checksums = { x86_64 = "d41d8cd98f00b204e9800998ecf8427e" }
  }
  expect_failures = [var.checksums]
}

run "a_mirror_without_tls" {
  command = plan
  variables {
    download_url = "http://mirror.example.com/monsys"
  }
  expect_failures = [var.download_url]
}

run "a_mirror_with_a_password" {
  command = plan
  variables {
    download_url = "https://user:password@mirror.example.com/monsys"
  }
  expect_failures = [var.download_url]
}

run "an_installer_without_tls" {
  command = plan
  variables {
    install_url = "http://mirror.example.com/install.sh"
  }
  expect_failures = [var.install_url]
}

run "a_short_checksum_of_the_installer" {
  command = plan
  variables {
    install_sha256 = "abc"
  }
  expect_failures = [var.install_sha256]
}

run "commands_that_are_not_a_list" {
  command = plan
  variables {
    extra_runcmd = "reboot"
  }
  expect_failures = [var.extra_runcmd]
}

run "a_command_that_is_an_object" {
  command = plan
  variables {
    extra_runcmd = [{ run = ["reboot"] }]
  }
  expect_failures = [var.extra_runcmd]
}

run "cloud_config_that_is_text" {
  command = plan
  variables {
    extra_cloud_config = "packages: [curl]"
  }
  expect_failures = [var.extra_cloud_config]
}

run "more_than_16_kib" {
  command = plan
  variables {
    extra_cloud_config = { write_files = [{ path = "/x", content = join("", [for i in range(1000) : "éééééééééééé"]) }] }
  }
  expect_failures = [output.cloud_init]
}

run "more_than_16_kib_compressed" {
  command = plan
  variables {
    user_data_gzip     = true
    extra_cloud_config = { write_files = [{ path = "/x", content = join("", [for i in range(1000) : sha512("${i}")]) }] }
  }
  expect_failures = [output.cloud_init]
}
