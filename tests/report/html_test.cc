#include "report/html.h"

#include <gtest/gtest.h>

#include <string>

namespace whit {
namespace {

Results hostile() {
  const std::string bad = "</script><script>alert(1)</script>\xff\x1b & \"q\"";
  Results results;
  results.title = results.note = results.prompt = results.base = results.reference_name = bad;
  EvalRow row;
  row.model = bad;
  row.file_bytes = 9e7;
  row.kl_mean = 0.01;
  results.rows.push_back(row);
  row.kl_mean = 0;
  results.rows.push_back(row);
  results.rows.push_back(EvalRow{});
  ModelRecord model;
  model.model = bad;
  model.file_bytes = 9e7;
  model.file_bits_per_weight = 5;
  model.tensors = {{"token_embd.weight", bad, {10, 4}, 0, 8.5}, {"blk.0.ffn_down.weight", bad, {4, 4}, 0, 4.5}};
  results.models.push_back(model);
  results.answers.push_back({bad, bad});
  results.references.push_back({bad, 7e7, 0.5, not_measured});
  return results;
}

size_t count(const std::string& text, const std::string& what) {
  size_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

TEST(Html, HostileTextStaysTextAndNothingIsLoaded) {
  std::string page = html_page(hostile());
  const size_t library = page.find(std::string(chart_js()));
  ASSERT_NE(library, std::string::npos);
  ASSERT_GT(chart_js().size(), 100000u);
  EXPECT_EQ(chart_js().find("</script"), std::string_view::npos);
  page.erase(library, chart_js().size());
  EXPECT_EQ(page.find("<script>alert"), std::string::npos);
  EXPECT_EQ(page.find("\x1b"), std::string::npos);
  EXPECT_EQ(count(page, "<script"), count(page, "</script>"));
  EXPECT_NE(page.find("&lt;/script&gt;"), std::string::npos);
  for (const char* loader : {"<link", "src=", "@import", "url("})
    EXPECT_EQ(page.find(loader), std::string::npos) << loader;
}

TEST(Html, EmptyResultsMakeAPage) {
  EXPECT_NE(html_page(Results{}).find("</html>"), std::string::npos);
  EXPECT_NE(svg_picture(Results{}).find("</svg>"), std::string::npos);
}

TEST(Picture, IsWholeAndTheSameTwice) {
  const std::string picture = svg_picture(hostile());
  EXPECT_EQ(picture, svg_picture(hostile()));
  EXPECT_EQ(count(picture, "<text"), count(picture, "</text>"));
  EXPECT_EQ(count(picture, "<title>"), count(picture, "</title>"));
  EXPECT_EQ(picture.find("nan"), std::string::npos);
  EXPECT_EQ(picture.find("<script"), std::string::npos);
}

}  // namespace
}  // namespace whit
