#include "report/table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "report/units.h"

namespace whit {
namespace {

Table example() {
  Table table{{{"name", false}, {"n"}}, {}};
  table.add({"a|b", "1"});
  table.add({"日本", "1000"});
  return table;
}

TEST(Table, TextIsAlignedByWhatIsShown) {
  EXPECT_EQ(text_table(example()),
            "name     n\n"
            "----  ----\n"
            "a|b      1\n"
            "日本  1000\n");
}

TEST(Table, Markdown) {
  EXPECT_EQ(markdown_table(example()),
            "| name | n |\n"
            "|---|---:|\n"
            "| a\\|b | 1 |\n"
            "| 日本 | 1000 |\n");
}

TEST(Table, EscapeKeepsTextAndMendsWhatIsBroken) {
  const std::string broken = "\xef\xbf\xbd";
  EXPECT_EQ(html_escape("x & \"y\" 'z' </td>"), "x &amp; &quot;y&quot; &#39;z&#39; &lt;/td&gt;");
  EXPECT_EQ(html_escape("\x1b[31m"), broken + "[31m");
  EXPECT_EQ(html_escape("\xe2\x80\xae"
                        "a"
                        "\xc2\x9b"
                        "b"
                        "\xe2\x81\xa7"),
            broken + "a" + broken + "b" + broken);
  EXPECT_EQ(html_escape("\xe6\x97"), broken + broken);               // cut short
  EXPECT_EQ(html_escape("\xc0\xaf"), broken + broken);               // overlong
  EXPECT_EQ(html_escape("\xed\xa0\x80"), broken + broken + broken);  // a surrogate
  EXPECT_EQ(html_escape("é\n日\t🙂"), "é\n日\t🙂");
}

TEST(Table, Width) {
  EXPECT_EQ(display_width("日本"), 4u);
  EXPECT_EQ(display_width("e\xcc\x81"), 1u);  // combining accent
  EXPECT_EQ(display_width("±"), 1u);
}

TEST(Units, Texts) {
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1000), "1.0 kB");
  EXPECT_EQ(format_bytes(98362432), "98.4 MB");
  EXPECT_EQ(format_bytes(999999999), "1.0 GB");
  EXPECT_EQ(format_seconds(9.94), "9.9 s");
  EXPECT_EQ(format_seconds(59.96), "1 min 00 s");
  EXPECT_EQ(format_seconds(125), "2 min 05 s");
  EXPECT_EQ(format_seconds(3780), "1 h 03 min");
  EXPECT_EQ(format_seconds(std::numeric_limits<double>::infinity()), "?");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(134515008), "134,515,008");
  EXPECT_EQ(format_number(std::nan(""), 1), "-");
}

}  // namespace
}  // namespace whit
