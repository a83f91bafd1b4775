"""From a bid request to a priced, paced and reserved bid."""
