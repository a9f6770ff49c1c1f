// A table of cells that is written as text, Markdown or HTML.
#pragma once

#include <string>
#include <vector>

namespace whit {

struct Column {
  std::string title;
  bool right = true;  // numbers stand right, names left
};

struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // as many cells as columns
  void add(std::vector<std::string> cells);
};

// Columns aligned by the characters that a terminal shows (code points; wide ones count two).
std::string text_table(const Table& table);
std::string markdown_table(const Table& table);
std::string html_table(const Table& table);

// & < > " ' as entities; control characters as U+FFFD; broken UTF-8 as U+FFFD.
std::string html_escape(const std::string& text);
// Columns that a terminal needs for UTF-8 text.
size_t display_width(const std::string& text);

}  // namespace whit
