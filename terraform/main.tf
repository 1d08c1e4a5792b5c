# The user data. boot.sh is the same for every host. The differences are in a settings file, with one
# setting a line. No value is inserted into a shell command. The document is encoded as JSON, which is
# valid YAML.

locals {
  folder   = "/var/lib/monsys-boot"
  settings = "${local.folder}/settings"
  boot     = "${local.folder}/boot.sh"
  ca_file  = "/etc/monsys/hub-ca.pem"
  # cloud-init runs each file in this folder at each boot, before any runcmd, and `cloud-init status` always
  # reports a failure. The failure of a runcmd is lost unless the runcmd is the last one.
  hook = "/var/lib/cloud/scripts/per-boot/monsys-agent"
  # cloud-init executes nothing below a /var that is mounted noexec. So the hook is a link to a file in /etc.
  # bootcmd runs through sh and before write_files, which then writes through the link. Without the link, as
  # when another part of the user data replaces bootcmd, the hook is a file. The guard is false after the
  # first boot of the instance.
  link = join("; ", [
    "h=${local.hook}",
    "[ -e /var/lib/cloud/instance/sem/config_scripts_user ] || { mkdir -p $${h%/*} && ln -sf /etc/monsys-boot $h; }",
  ])

  token       = var.monsys_token == null ? null : trimspace(var.monsys_token)
  source      = "https://get.monsys.ai"
  release     = var.agent_version == null ? null : "${local.source}/releases/v${var.agent_version}"
  mirror      = var.download_url == null ? null : trimsuffix(var.download_url, "/")
  folder_url  = var.download_url == null ? local.release : local.mirror
  install_url = var.install_url != null ? var.install_url : "${local.folder_url == null ? local.source : local.folder_url}/install.sh"

  given = [
    ["INSTALL_URL", local.install_url],
    ["INSTALL_SHA256", var.install_sha256],
    ["SHA256_x86_64", try(var.checksums.x86_64, null)],
    ["SHA256_aarch64", try(var.checksums.aarch64, null)],
    ["MONSYS_DOWNLOAD_URL", local.mirror],
    ["MONSYS_VERSION", var.agent_version],
    ["MONSYS_HUB_URL", var.hub_url],
    ["MONSYS_CA_FILE", var.ca_pem == null ? null : local.ca_file],
    ["MONSYS_CA_PIN", var.ca_pin],
    ["HTTPS_PROXY", var.proxy],
    ["NO_PROXY", join(",", var.no_proxy)],
    ["MONSYS_WAIT", var.wait],
    ["MONSYS_SPLAY", var.splay],
    ["MONSYS_TOKEN", local.token],
    ["MONSYS_TOKEN_FILE", try(var.monsys_token_from.file, null)],
    ["ARGUMENT", local.token_command == null ? null : "--token-command"],
    ["ARGUMENT", local.token_command],
    ["ARGUMENT", var.defer ? "--defer" : null],
    ["MONSYS_ROLE", var.role],
  ]
  lines = concat(
    [for pair in local.given : "${pair[0]}=${pair[1]}" if pair[1] != null && pair[1] != ""],
    [for tag in var.tags : "TAG=${tag}"],
  )
  settings_text = join("", [for line in local.lines : "${line}\n"])
  # A checkout on Windows may have changed the ends of lines, and a shell would read them as a part of each line.
  # User data has a limit, so the comments stay here.
  boot_text = replace(replace(file("${path.module}/boot.sh"), "\r\n", "\n"), "/(?m)^ *# .*\n/", "")
  ca_text   = var.ca_pem == null ? "" : "${replace(trimspace(var.ca_pem), "\r\n", "\n")}\n"

  # A control character, which no tag has, marks the place of the zone until the rest is escaped. The zone
  # is an expression, because after a block cloud-init's jinja removes the end of the line.
  zone_mark = "TAG=\u0001\n"
  zone_json = "TAG={{ v1.availability_zone or '' }}\\n"

  document = merge(
    # In multipart user data, this keeps the parts before this one.
    { merge_how = "list(append)+dict(no_replace,recurse_list)+str()" },
    var.extra_cloud_config,
    { bootcmd = concat([["sh", "-c", local.link]], try(var.extra_cloud_config.bootcmd, [])) },
    { write_files = concat(
      [{
        path        = local.settings
        permissions = "0600"
        content     = "${local.settings_text}${var.availability_zone_tag ? local.zone_mark : ""}"
      }],
      [{ path = local.boot, permissions = "0600", content = local.boot_text }],
      [{
        path        = local.hook
        permissions = "0700"
        content     = "#!/bin/sh\nexec sh ${local.boot} at-boot\n"
      }],
      var.ca_pem == null ? [] : [{ path = local.ca_file, permissions = "0644", content = local.ca_text }],
      try(var.extra_cloud_config.write_files, []),
    ) },
    length(local.runcmd) == 0 ? null : { runcmd = local.runcmd },
  )
  runcmd = concat(try(var.extra_cloud_config.runcmd, []), [for command in var.extra_runcmd : command])

  encoded = jsonencode(local.document)
  # Only the module's own text is a template.
  escaped = replace(replace(replace(local.encoded, "{{", "{\\u007b"), "{%", "\\u007b%"), "{#", "\\u007b#")
  jinja   = replace(local.escaped, "TAG=\\u0001\\n", local.zone_json)

  cloud_init = var.availability_zone_tag ? "## template: jinja\n#cloud-config\n${local.jinja}\n" : "#cloud-config\n${local.encoded}\n"

  # These are bytes, not characters. Their number reveals the length of the token, so only the comparison
  # with the limit is shown.
  base64 = { plain = base64encode(local.cloud_init), gzip = base64gzip(local.cloud_init) }
  fits = { for form, text in local.base64 : form =>
    nonsensitive(length(text) / 4 * 3 - length(regexall("=", text)) <= var.user_data_limit)
  }

  # The inputs that `sensitive` does not protect, and that become an argument or a setting.
  shown = jsonencode([
    var.tags, var.role, var.hub_url, var.ca_pin, var.no_proxy, var.splay, var.wait,
    var.agent_version, var.download_url, var.install_url,
  ])

  # The same without cloud-init. Each text ends with a word that is not a line of the texts.
  install_script = var.availability_zone_tag ? null : join("", concat(
    [
      "#!/bin/sh\n",
      "# Installs monsys-agent on this host, as root. The script may run again at the next boot.\n",
      "main() {\n",
      # 75 is an enrolled host whose hub is down.
      "if monsys-agent status >/dev/null 2>&1 || [ $? = 75 ]; then exit 0; fi\n",
      "umask 077 && mkdir -p ${local.folder} || exit 73\n",
      local.heredoc[local.settings], local.heredoc[local.boot],
    ],
    var.ca_pem == null ? [] : [
      "(umask 022 && mkdir -p ${dirname(local.ca_file)}) || exit 73\n",
      local.heredoc[local.ca_file],
      "chmod 644 ${local.ca_file}\n",
    ],
    [
      "sh ${local.boot} || status=$?\n",
    ],
    [for command in local.runcmd : "${try(tostring(command), join(" ", [for word in command : "'${replace(word, "'", "'\\''")}'"]))}\n"],
    [
      "exit \"$${status:-0}\"\n}\nmain\n",
    ],
  ))
  heredoc = {
    for path, text in { (local.settings) = local.settings_text, (local.boot) = local.boot_text, (local.ca_file) = local.ca_text } :
    path => "cat >${path} <<'END_OF_MONSYS_FILE' || exit 73\n${text}END_OF_MONSYS_FILE\n"
  }
}
