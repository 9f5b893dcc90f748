"""Reports: one HTML file from run folders. Reads what the folders hold, and knows no model."""
