"""What quantizing one layer costs, and the recipe of the smallest file."""
