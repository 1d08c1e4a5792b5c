terraform {
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.0"
    }
  }
}

provider "azurerm" {
  features {}
}

variable "resource_group" {
  description = "Name of the resource group."
  type        = string
}

variable "location" {
  description = "Region of the machines."
  type        = string
  default     = "westeurope"
}

variable "subnet_id" {
  description = "Subnet of the machines."
  type        = string
}

variable "identity_id" {
  description = "Resource id of the user-assigned identity. It has the role Key Vault Secrets User for this secret: docs/secrets.md."
  type        = string
}

variable "ssh_public_key" {
  description = "Key of the machines' administrator."
  type        = string
}

resource "azurerm_network_interface" "web" {
  count               = var.machines
  name                = "web-${count.index}"
  resource_group_name = var.resource_group
  location            = var.location

  ip_configuration {
    name                          = "internal"
    subnet_id                     = var.subnet_id
    private_ip_address_allocation = "Dynamic"
  }
}

resource "azurerm_linux_virtual_machine" "web" {
  count                 = var.machines
  name                  = "web-${count.index}"
  resource_group_name   = var.resource_group
  location              = var.location
  size                  = "Standard_B2ats_v2"
  admin_username        = "operator"
  network_interface_ids = [azurerm_network_interface.web[count.index].id]
  custom_data           = module.monsys[count.index].cloud_init_base64

  identity {
    type         = "UserAssigned"
    identity_ids = [var.identity_id]
  }

  admin_ssh_key {
    username   = "operator"
    public_key = var.ssh_public_key
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "Standard_LRS"
  }

  source_image_reference {
    publisher = "Canonical"
    offer     = "ubuntu-24_04-lts"
    sku       = "server"
    version   = "latest"
  }

  lifecycle {
    # A new token would replace every machine, and enrolled machines do not need it.
    ignore_changes = [custom_data]
  }
}
