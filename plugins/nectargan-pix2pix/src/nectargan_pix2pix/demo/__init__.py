"""The demo: two objectives by name restore the same scratched prints, beside what filters make of them."""
