// What may stand in one curve.
#include "report/comparisons.h"

#include <gtest/gtest.h>

#include "report/html.h"

namespace whit {
namespace {

EvalRow row(const std::string& model, const std::string& original, const std::string& text) {
  EvalRow row;
  row.model = model;
  row.model_hash = model + " hash";
  row.original = original;
  row.original_hash = original + " hash";
  row.text = text;
  row.text_hash = row.windows_hash = text + " hash";
  row.context = 512;
  row.windows = 20;
  row.file_bytes = 1e7;
  row.kl_mean = 0.5;
  return row;
}

ReferencePoint point(const std::string& text, const std::string& original) {
  ReferencePoint point{"Q4_0", 2e7, 0.1, 20};
  point.text = text;
  point.original = original;
  return point;
}

TEST(Comparisons, AreOfOneTextAndOneOriginal) {
  Results results;
  results.rows = {row("a/x.gguf", "big.gguf", "news"), row("b/y.gguf", "other.gguf", "news"),
                  row("z", "big.gguf", "novels"), row("big.gguf", "big.gguf", "news")};
  results.rows.push_back(row("w", "big.gguf", "news"));
  results.rows.back().windows_hash = "other windows";
  results.rows.push_back(row("v", "big.gguf", "news"));
  results.rows.back().original = "moved/big.gguf";  // the same by its hash
  EvalRow old;
  old.model = "old";
  results.rows.push_back(old);
  results.references = {point("news", "big"), point("novels", "other"), point("", ""), point("news", "")};
  const std::vector<Comparison> all = comparisons(results);
  ASSERT_EQ(all.size(), 8u);
  EXPECT_EQ(all[0].heading, "judged on news (20 windows of 512 tokens), beside big");
  ASSERT_EQ(all[0].rows.size(), 3u);
  EXPECT_EQ(all[0].rows[2].model, "v");
  ASSERT_EQ(all[0].references.size(), 1u);
  EXPECT_EQ(all[1].heading, "judged on news (20 windows of 512 tokens), beside other");
  EXPECT_EQ(all[2].rows[0].model, "z");
  EXPECT_TRUE(all[2].references.empty());  // of another original
  EXPECT_EQ(all[3].rows[0].model, "w");
  EXPECT_EQ(all[4].heading, "judged on an unknown text");
  EXPECT_EQ(all[5].heading, "others, judged on novels, beside other");
  EXPECT_EQ(all[6].heading, "others, judged on an unknown text, beside an unknown original");
  EXPECT_EQ(all[7].heading, "others, judged on news, beside an unknown original");
  EXPECT_TRUE(is_original(all[0].rows[1]));
  EXPECT_FALSE(is_original(all[0].rows[0]));

  // Of their own in every picture.
  const std::string page = html_page(results), picture = svg_picture(results);
  for (const Comparison& one : all) {
    EXPECT_NE(page.find("<h3>" + one.heading + "</h3>"), std::string::npos) << one.heading;
    EXPECT_NE(picture.find(">" + one.heading + "</text>"), std::string::npos) << one.heading;
  }
  EXPECT_NE(page.find("big (original)"), std::string::npos);
  EXPECT_NE(page.find("id=\"quality-1\""), std::string::npos);
}

TEST(Comparisons, ReferencesSayHowManyWindows) {
  Results results;
  results.rows = {row("x", "big", "news")};
  results.references = {point("news", "big")};
  results.references[0].windows = 40;
  EXPECT_TRUE(comparisons(results)[0].references.empty());
  results.references[0].windows = 20;
  EXPECT_EQ(comparisons(results)[0].references.size(), 1u);
}

// Markup in each field that comes from outside, one at a time.
TEST(Comparisons, MarkupIsTextInEveryField) {
  const std::string bad = "</script></td></text><img src=x onerror=alert(1)>\"'&<!--";
  const std::vector<std::pair<const char*, void (*)(Results&, const std::string&)>> fields = {
      {"title", [](Results& r, const std::string& s) { r.title = s; }},
      {"note", [](Results& r, const std::string& s) { r.note = s; }},
      {"base", [](Results& r, const std::string& s) { r.base = s; }},
      {"prompt", [](Results& r, const std::string& s) { r.prompt = s; }},
      {"reference name", [](Results& r, const std::string& s) { r.reference_name = s; }},
      {"model", [](Results& r, const std::string& s) { r.rows[0].model = s; }},
      {"activations", [](Results& r, const std::string& s) { r.rows[0].activations = s; }},
      {"executor", [](Results& r, const std::string& s) { r.rows[0].executor = s; }},
      {"text", [](Results& r, const std::string& s) { r.rows[0].text = s; }},
      {"original", [](Results& r, const std::string& s) { r.rows[0].original = s; }},
      {"paired", [](Results& r, const std::string& s) { r.rows[0].paired_with = s; }},
      {"layers' model", [](Results& r, const std::string& s) { r.models[0].model = s; }},
      {"architecture", [](Results& r, const std::string& s) { r.models[0].architecture = s; }},
      {"tensor", [](Results& r, const std::string& s) { r.models[0].tensors[0].name = "blk.0.ffn_down." + s; }},
      {"format", [](Results& r, const std::string& s) { r.models[0].tensors[0].format = s; }},
      {"embedding's format", [](Results& r, const std::string& s) { r.models[0].tensors[1].format = s; }},
      {"answer's model", [](Results& r, const std::string& s) { r.answers[0].model = s; }},
      {"answer", [](Results& r, const std::string& s) { r.answers[0].text = s; }},
      {"reference", [](Results& r, const std::string& s) { r.references[0].name = s; }},
      {"reference's text", [](Results& r, const std::string& s) { r.references[0].text = s; }},
      {"reference's original", [](Results& r, const std::string& s) { r.references[0].original = s; }},
  };
  for (const auto& [field, set] : fields) {
    Results results;
    results.rows = {row("x", "big", "news")};
    results.models = {
        {"m",
         "llama",
         "ok",
         32,
         20,
         16,
         {{"blk.0.ffn_down.weight", "grid", {4, 4}, 0, 4.5}, {"token_embd.weight", "q8_0", {4, 4}, 0, 8.5}}}};
    results.answers = {{"x", "an answer"}};
    results.references = {point("news", "big")};
    set(results, bad);
    std::string page = html_page(results);
    page.erase(page.find(std::string(chart_js())), chart_js().size());
    for (const std::string& out : {page, svg_picture(results)}) {
      EXPECT_EQ(out.find("<img"), std::string::npos) << field;
      EXPECT_EQ(out.find("<!--"), std::string::npos) << field;
      EXPECT_EQ(out.find("</script></td>"), std::string::npos) << field;
    }
    const std::string markdown = markdown_table(eval_table(results.rows));
    EXPECT_EQ(markdown.find("<img"), std::string::npos) << field;
  }
}

}  // namespace
}  // namespace whit
