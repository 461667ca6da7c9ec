"""Result files of several methods side by side: pictures and scores (``docs/compare.md``)."""
