"""What each bid was made from: written beside the path of answers, read to explain, to run again and to measure."""
