output "cloud_init" {
  description = "The user data, as text."
  value       = local.cloud_init
  sensitive   = true

  precondition {
    condition     = (var.monsys_token == null) != (var.monsys_token_from == null)
    error_message = "Give either monsys_token, or monsys_token_from, which keeps the token out of Terraform's state."
  }
  precondition {
    condition     = !var.defer || var.monsys_token_from != null
    error_message = "An image contains no secret. With defer = true, set monsys_token_from, so that each host gets the token at its first boot."
  }
  precondition {
    condition     = var.user_data_gzip || local.fits.plain
    error_message = "The user data has more than the ${var.user_data_limit} bytes of user_data_limit. Use cloud_init_gzip_base64 and set user_data_gzip = true, or shorten extra_cloud_config and ca_pem (ca_pin is enough when the hub sends its CA), or set user_data_limit to the limit of your cloud."
  }
  precondition {
    condition     = !var.user_data_gzip || local.fits.gzip
    error_message = "The compressed user data has more than the ${var.user_data_limit} bytes of user_data_limit. Shorten extra_cloud_config and ca_pem, or set user_data_limit to the limit of your cloud."
  }
  precondition {
    # The same rule as in monsys_token_from, without ms_, because names of services begin with it too.
    condition = length([
      for run in regexall("(?:enrl|agt)_[0-9A-Za-z_-]{16,}", local.shown) : true
      if can(regex("(?:enrl|agt|ms)_[^a-z]*[a-z]", run)) && can(regex("[A-Z]", run)) || can(regex("(?:enrl|agt|ms)_[A-Za-z]{0,15}[0-9]", run)) && can(regex("(?:enrl|agt|ms)_[0-9A-Za-z]{16}", run))
    ]) == 0
    error_message = "An input other than monsys_token holds a token, and Terraform would show it. The token goes into monsys_token."
  }
}

output "cloud_init_base64" {
  description = "The same in base64, for clouds that require it."
  value       = local.base64.plain
  sensitive   = true
}

output "cloud_init_gzip_base64" {
  description = "The same, compressed, in base64: about a third of the bytes, for `user_data_base64` at AWS and similar inputs. Set `user_data_gzip = true` with it."
  value       = local.base64.gzip
  sensitive   = true
}

output "install_script" {
  description = "A shell script that does the same, for images without cloud-init and as a `text/x-shellscript` part of multipart user data. It does not include `extra_cloud_config`. Null with `availability_zone_tag`."
  value       = local.install_script
  sensitive   = true
}
