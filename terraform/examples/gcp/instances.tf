terraform {
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 5.0"
    }
  }
}

resource "google_service_account" "web" {
  project    = var.project
  account_id = "web-hosts"
}

# The minimal policy of a host: reading this one secret.
resource "google_secret_manager_secret_iam_member" "token" {
  project   = var.project
  secret_id = "monsys-enrolment"
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.web.email}"
}

resource "google_compute_instance" "web" {
  count        = var.instances
  project      = var.project
  name         = "web-${count.index}"
  zone         = "europe-west1-b"
  machine_type = "e2-small"

  boot_disk {
    initialize_params {
      # Google's Ubuntu has cloud-init. Images without it need startup-script and install_script.
      image = "ubuntu-os-cloud/ubuntu-2404-lts-amd64"
    }
  }

  network_interface {
    network = "default"
  }

  metadata = {
    user-data = module.monsys[count.index].cloud_init
  }

  service_account {
    email  = google_service_account.web.email
    scopes = ["cloud-platform"]
  }

  # The policy first: nothing else in this block refers to it, and a host reads the token as soon as it boots.
  depends_on = [google_secret_manager_secret_iam_member.token]
}
