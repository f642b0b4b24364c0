"""Who may use the API beyond what everybody may: accounts with their plans, keys and usage."""
