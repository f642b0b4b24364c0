"""Who may use the API beyond what everybody may: accounts, their plans, their keys, and what they have used."""
