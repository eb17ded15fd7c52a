"""What is asked of the database: one class per noun, one statement per question."""
