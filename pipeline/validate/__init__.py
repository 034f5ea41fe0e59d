"""How good a product is: against a known truth, against inventories. Reads product files and inputs."""
