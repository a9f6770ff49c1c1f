#include "report/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace whit {
namespace {

// The next code point of UTF-8; broken bytes are U+FFFD each. Moves `at`.
uint32_t next_code_point(const std::string& text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  const size_t length = lead < 0x80 ? 1 : lead >= 0xf0 && lead < 0xf5 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
  if (length == 1) return text[at++];
  if (length == 0 || lead >= 0xf5 || at + length > text.size()) {
    ++at;
    return 0xfffd;
  }
  uint32_t code = lead & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) {
      ++at;
      return 0xfffd;
    }
    code = code << 6 | (byte(at + i) & 0x3f);
  }
  const uint32_t least = length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000;
  if (code < least || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
    ++at;
    return 0xfffd;
  }
  at += length;
  return code;
}

// East Asian wide blocks and emoji; an approximation that serves for alignment.
bool wide(uint32_t code) {
  return (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) ||
         (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff) ||
         (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
         (code >= 0x1f300 && code <= 0x1faff) || (code >= 0x20000 && code <= 0x3fffd);
}

bool combining(uint32_t code) {
  return (code >= 0x300 && code <= 0x36f) || code == 0x200d || (code >= 0xfe00 && code <= 0xfe0f);
}

std::string padded(const std::string& cell, size_t width, bool right) {
  const std::string space(width - std::min(width, display_width(cell)), ' ');
  return right ? space + cell : cell + space;
}

std::string markdown_cell(const std::string& text) {
  std::string out;
  for (const char c : text) {  // a cell is text, no markup
    if (std::string_view("|\\[`").find(c) != std::string_view::npos) out += '\\';
    if (c == '<')
      out += "&lt;";
    else
      out += c == '\n' ? ' ' : c;
  }
  return out;
}

}  // namespace

void Table::add(std::vector<std::string> cells) {
  WHIT_CHECK(cells.size() == columns.size());
  rows.push_back(std::move(cells));
}

size_t display_width(const std::string& text) {
  size_t width = 0;
  for (size_t at = 0; at < text.size();) {
    const uint32_t code = next_code_point(text, at);
    width += combining(code) ? 0 : wide(code) ? 2 : 1;
  }
  return width;
}

std::string text_table(const Table& table) {
  std::vector<size_t> widths;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    size_t width = display_width(table.columns[c].title);
    for (const auto& row : table.rows) width = std::max(width, display_width(row[c]));
    widths.push_back(width);
  }
  std::string out, rule;
  const auto line = [&](auto&& cell) {
    std::string text;
    for (size_t c = 0; c < table.columns.size(); ++c) {
      if (c) text += "  ";
      text += padded(cell(c), widths[c], table.columns[c].right);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line([&](size_t c) { return table.columns[c].title; });
  for (size_t c = 0; c < widths.size(); ++c) rule += (c ? "  " : "") + std::string(widths[c], '-');
  out += rule + "\n";
  for (const auto& row : table.rows) line([&](size_t c) { return row[c]; });
  return out;
}

std::string markdown_table(const Table& table) {
  std::string out = "|", rule = "|";
  for (const Column& column : table.columns) {
    out += " " + markdown_cell(column.title) + " |";
    rule += column.right ? "---:|" : "---|";
  }
  out += "\n" + rule + "\n";
  for (const auto& row : table.rows) {
    out += "|";
    for (const std::string& cell : row) out += " " + markdown_cell(cell) + " |";
    out += "\n";
  }
  return out;
}

std::string html_table(const Table& table) {
  std::string out = "<table>\n<thead><tr>";
  for (const Column& column : table.columns)
    out += fmt::format("<th{}>{}</th>", column.right ? " class=\"number\"" : "", html_escape(column.title));
  out += "</tr></thead>\n<tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (size_t c = 0; c < row.size(); ++c)
      out += fmt::format("<td{}>{}</td>", table.columns[c].right ? " class=\"number\"" : "", html_escape(row[c]));
    out += "</tr>\n";
  }
  return out + "</tbody>\n</table>\n";
}

std::string html_escape(const std::string& text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    const uint32_t code = next_code_point(text, at);
    // What turns the direction of writing would turn the page around it too.
    const bool broken = code == 0xfffd || (code >= 0x80 && code < 0xa0) || (code >= 0x202a && code <= 0x202e) ||
                        (code >= 0x2066 && code <= 0x2069) || (code < 0x20 && code != '\n' && code != '\t' && code != '\r') || code == 0x7f;
    switch (code) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += broken ? "\xef\xbf\xbd" : text.substr(begin, at - begin);
    }
  }
  return out;
}

}  // namespace whit
