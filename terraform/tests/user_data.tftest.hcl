# The content of the user data, setting by setting.

variables {
  monsys_token = "enrl_0123456789abcdef"
}

run "the_minimal_inputs" {
  command = plan

  assert {
    condition     = startswith(output.cloud_init, "#cloud-config\n")
    error_message = "cloud-init recognises a document by its first line"
  }
  assert {
    condition     = yamldecode(output.cloud_init).write_files[0].content == "INSTALL_URL=https://get.monsys.ai/install.sh\nMONSYS_TOKEN=enrl_0123456789abcdef\n"
    error_message = "the document has to contain only the given settings"
  }
  assert {
    condition     = [for file in yamldecode(output.cloud_init).write_files : file.permissions] == ["0600", "0600", "0700"]
    error_message = "only root may read the settings"
  }
  assert {
    condition     = !can(yamldecode(output.cloud_init).runcmd)
    error_message = "a runcmd of the module would replace that of another part"
  }
  assert {
    condition     = output.cloud_init_base64 == base64encode(output.cloud_init) && output.cloud_init_gzip_base64 == base64gzip(output.cloud_init)
    error_message = "the three outputs have to be the same document"
  }
  assert {
    condition     = strcontains(output.install_script, "MONSYS_TOKEN=enrl_0123456789abcdef\n")
    error_message = "the script has to contain the same settings"
  }
}

run "all_inputs" {
  command = plan

  variables {
    monsys_token   = " enrl_0123456789abcdef\n"
    tags           = ["shard-7", "a b", "$HOME", "it's"]
    role           = "web"
    hub_url        = "https://hub.example.com:8443/monsys"
    ca_pem         = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
    ca_pin         = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
    proxy          = "http://user:password@proxy.example.com:3128"
    no_proxy       = ["localhost", "10.0.0.0/8"]
    splay          = "2m"
    wait           = "1h30m"
    agent_version  = "0.1.0"
    checksums      = { x86_64 = sha256("x"), aarch64 = sha256("a") }
    download_url   = "https://hub.example.com/dist/"
    install_sha256 = sha256("install.sh")
    extra_runcmd   = ["echo done", ["touch", "/run/a b"]]
    extra_cloud_config = {
      packages    = ["awscli"]
      write_files = [{ path = "/etc/motd", content = "hello" }]
      runcmd      = ["echo first"]
    }
  }

  assert {
    condition = yamldecode(output.cloud_init).write_files[0].content == join("\n", [
      "INSTALL_URL=https://hub.example.com/dist/install.sh",
      "INSTALL_SHA256=${sha256("install.sh")}",
      "SHA256_x86_64=${sha256("x")}",
      "SHA256_aarch64=${sha256("a")}",
      "MONSYS_DOWNLOAD_URL=https://hub.example.com/dist",
      "MONSYS_VERSION=0.1.0",
      "MONSYS_HUB_URL=https://hub.example.com:8443/monsys",
      "MONSYS_CA_FILE=/etc/monsys/hub-ca.pem",
      "MONSYS_CA_PIN=sha256:0000000000000000000000000000000000000000000000000000000000000000",
      "HTTPS_PROXY=http://user:password@proxy.example.com:3128",
      "NO_PROXY=localhost,10.0.0.0/8",
      "MONSYS_WAIT=1h30m",
      "MONSYS_SPLAY=2m",
      "MONSYS_TOKEN=enrl_0123456789abcdef",
      "MONSYS_ROLE=web",
      "TAG=shard-7",
      "TAG=a b",
      "TAG=$HOME",
      "TAG=it's",
      "",
    ])
    error_message = "every setting has to be an unchanged line"
  }
  assert {
    condition     = yamldecode(output.cloud_init).write_files[3].path == "/etc/monsys/hub-ca.pem" && yamldecode(output.cloud_init).write_files[4].path == "/etc/motd"
    error_message = "the CA and the user's own files have to be written too"
  }
  assert {
    condition     = jsonencode(yamldecode(output.cloud_init).runcmd) == jsonencode(["echo first", "echo done", ["touch", "/run/a b"]])
    error_message = "the user's commands have to keep their form and order"
  }
  assert {
    condition     = yamldecode(output.cloud_init).packages == ["awscli"]
    error_message = "the user's other keys have to stay"
  }
  assert {
    condition     = strcontains(output.install_script, "\n'touch' '/run/a b'\n")
    error_message = "the script has to run the user's commands too"
  }
}

run "values_at_the_limits" {
  command = plan

  variables {
    user_data_limit = 32768
    monsys_token    = "enrl_${join("", [for i in range(507) : "a"])}"
    tags            = [for i in range(64) : join("", concat([for c in range(126) : "é"], [format("%02d", i)]))]
    role            = join("", [for c in range(128) : "é"])
  }

  assert {
    condition     = length(regexall("\nTAG=", yamldecode(output.cloud_init).write_files[0].content)) == 64
    error_message = "64 tags of 128 characters, of two bytes each, have to fit"
  }
}

run "a_release_is_fetched_from_its_own_folder" {
  command = plan

  variables {
    agent_version = "0.1.0"
  }

  assert {
    condition     = strcontains(output.install_script, "\nINSTALL_URL=https://get.monsys.ai/releases/v0.1.0/install.sh\n")
    error_message = "install.sh of another release has other checksums"
  }
}

run "the_availability_zone_is_a_tag" {
  command = plan

  variables {
    availability_zone_tag = true
    tags                  = ["{{ v1.region }}", "{% if", "{#"]
  }

  assert {
    condition     = startswith(output.cloud_init, "## template: jinja\n#cloud-config\n")
    error_message = "cloud-init has to render the document"
  }
  assert {
    condition     = join(" ", regexall("\\{\\{|\\{%|\\{#", output.cloud_init)) == "{{"
    error_message = "only the zone may be a template"
  }
  assert {
    condition     = output.install_script == null
    error_message = "a script without cloud-init cannot render the zone"
  }
}

run "too_long_but_not_when_compressed" {
  command = plan

  variables {
    user_data_gzip     = true
    extra_cloud_config = { write_files = [{ path = "/x", content = join("", [for i in range(1000) : "éééééééééééé"]) }] }
  }

  assert {
    condition     = length(output.cloud_init_gzip_base64) < 16384
    error_message = "the limit has to apply to the used form"
  }
}
