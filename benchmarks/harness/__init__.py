"""What the questions about reads share: who is asked, over what data, by whom, and what a figure is."""
