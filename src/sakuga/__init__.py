"""sakuga draws anime pictures from XML-structured prompts."""
