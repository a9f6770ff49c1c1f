// Pre-tokenizers: what each value of tokenizer.ggml.pre stands for, patterns as Hugging Face's tokenizers match them,
// and both ways between GGUF and tokenizer.json. What is expected was written by the package `tokenizers`
// (tools/compare_tokenizers.py holds much more against it, and against llama.cpp's reader).
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "data/pre_tokenizers/json_form.h"
#include "data/pre_tokenizers/names.h"
#include "data/tokenizer.h"
#include "fixtures.h"

namespace whit {
namespace {

using nlohmann::json;

std::vector<std::string> pieces(const std::vector<SplitStep>& steps, const std::string& text) {
  std::vector<std::string> all = {text};
  for (const SplitStep& step : steps) {
    const Split split(step);
    std::vector<std::string> cut;
    for (const std::string_view piece : all) {
      if (const Splitter splitter = split.splitter()) {
        for (size_t at = 0, length = 0; at < piece.size(); at += length) {
          length = splitter(piece.substr(at));
          cut.emplace_back(piece.substr(at, length));
        }
      } else {
        for (const auto& [begin, end] : split.pieces(piece)) cut.emplace_back(piece.substr(begin, end - begin));
      }
    }
    all = std::move(cut);
  }
  return all;
}

std::vector<std::string> pieces(const std::string& pattern, const std::string& text) {
  return pieces(std::vector<SplitStep>{{pattern}}, text);
}

constexpr char kText[] = "It'S 12345ab HelloWorld's e\u0301,中文かな가.\n\n (x=1)  `y`\r\n<sentinel:7>  ";

struct NameRow {
  std::vector<const char*> names;
  std::vector<std::string> pieces;
};
const NameRow kNameRows[] = {
    {{"gpt-2", "mpt", "olmo", "phi-2", "jais", "trillion", "granite-docling", "jina-es", "jina-de", "jina-v1-en",
      "jina-v2-es", "jina-v2-de", "jina-v2-code", "gigachat", "a.x-4.0", "mellum", "modern-bert", "exaone4",
      "roberta-bpe"},
     {"It", "'", "S", " 12345", "ab", " HelloWorld", "'s", " e", "\u0301,", "中文かな가", ".", "\n\n", " (", "x", "=",
      "1",  ")", " ", " `",     "y",  "`",           "\r", "\n", "<",       "sentinel",   ":", "7",    ">",  "  "}},
    {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "dbrx",
      "smaug-bpe", "chatglm-bpe", "glm4", "glm5"},
     {"It", "'S", " ", "123", "45", "ab", " HelloWorld", "'s",    " e",        "\u0301,", "中文かな가", ".\n\n", " (",
      "x",  "=",  "1", ")",   " ",  " `", "y",           "`\r\n", "<sentinel", ":",       "7",          ">",     "  "}},
    {{"qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"},
     {"It", "'S", " ", "1", "2", "3", "4",  "5", "ab",    " HelloWorld", "'s", " e", "\u0301,", "中文かな가", ".\n\n",
      " (", "x",  "=", "1", ")", " ", " `", "y", "`\r\n", "<sentinel",   ":",  "7",  ">",       "  "}},
    {{"qwen35"},
     {"It", "'S", " ", "1", "2", "3", "4",  "5", "ab",    " HelloWorld", "'s", " e\u0301", ",中文かな가", ".\n\n",
      " (", "x",  "=", "1", ")", " ", " `", "y", "`\r\n", "<sentinel",   ":",  "7",        ">",           "  "}},
    {{"tekken"}, {"It",    "'S", " ",        "1",           "2",         "3",  "4", "5", "ab", " Hello",
                  "World", "'s", " e\u0301", ",中文かな가", ".\n\n",     " (", "x", "=", "1",  ")",
                  " ",     " `", "y",        "`\r\n",       "<sentinel", ":",  "7", ">", "  "}},
    {{"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"},
     {"It", "'",       "S",          " ",  "1",    "2",        "3", "4", "5", "ab", " HelloWorld", "'s",
      " e", "\u0301,", "中文かな가", ".",  "\n\n", " (",       "x", "=", "1", ")",  " ",           " `",
      "y",  "`",       "\r",         "\n", "<",    "sentinel", ":", "7", ">", "  "}},
    {{"default"}, {"It",     "'", "S",          " ",    "123",   "45",       "ab", " HelloWorld", "'", "s", " e",
                   "\u0301", ",", "中文かな가", ".",    "\n\n ", "(",        "x",  "=",           "1", ")", " ",
                   " `",     "y", "`",          "\r\n", "<",     "sentinel", ":",  "7",           ">", "  "}},
    {{"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2", "granite-embed-multi-97m"},
     {"It'S", " ", "123", "45", "ab", " Hello", "World's", " e\u0301",  ",中文かな가", ".\n\n", " (", "x",
      "=",    "1", ")",   " ",  " `", "y",      "`\r\n",   "<sentinel", ":",           "7",     ">",  "  "}},
    {{"tiny_aya", "cohere2moe"},
     {"It'S", " ", "123", "45", "ab", " Hello", "World's", " e\u0301",  ",中文かな가", ".\n\n", " (", "x",
      "=",    "1", ")",   " ",  " `", "y",      "`\r\n",   "<sentinel", ":",           "7",     ">",  "  "}},
    {{"falcon"}, {"It",     "'", "S",          " ",    "123",   "45",       "ab", " HelloWorld", "'", "s", " e",
                  "\u0301", ",", "中文かな가", ".",    "\n\n ", "(",        "x",  "=",           "1", ")", "  ",
                  "`",      "y", "`",          "\r\n", "<",     "sentinel", ":",  "7",           ">", "  "}},
    {{"bloom", "poro-chat", "gpt3-finnish"},
     {"It'S", " 12345ab", " HelloWorld's", " e\u0301", ",", "中文かな가", ".\n\n (", "x=1", ") ", " `y`", "\r\n",
      "<sentinel:7>", "  "}},
    {{"viking"}, {"It'S",          " ",        "1",          "2",          "3",       "4",  "5", "ab",
                  " HelloWorld's", " e\u0301", ",",          "中文かな가", ".\n\n (", "x=", "1", ") ",
                  " `y`",          "\r\n",     "<sentinel:", "7",          ">",       "  "}},
    {{"deepseek-llm"}, {"It", "'",          "S", " ",  "12345", "ab", " HelloWorld", "'", "s", " e", "\u0301",
                        ",",  "中文かな가", ".", "\n", "\n",    " (", "x",           "=", "1", ")",  " ",
                        " `", "y",          "`", "\r", "\n",    "<",  "sentinel",    ":", "7", ">",  "  "}},
    {{"deepseek-coder"},
     {"It", "'",   "S",      " ", "1",          "2",  "3",  "4",        "5",  "ab", " HelloWorld", "'",
      "s",  " e",  "\u0301", ",", "中文かな가", ".",  "\n", "\n",       " (", "x",  "=",           "1",
      ")",  "  `", "y",      "`", "\r",         "\n", "<",  "sentinel", ":",  "7",  ">  "}},
    {{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
     {"It", "'S", " ", "123", "45", "ab", " HelloWorld", "'s",    " e\u0301",  ",", "中文かな", "가", ".\n\n", " (",
      "x",  "=",  "1", ")",   " ",  " `", "y",           "`\r\n", "<sentinel", ":", "7",        ">",  "  "}},
    {{"spark2_5"}, {"It", "'S",       " ",  "1",  "2",  "3",         "4",  "5", "ab", " HelloWorld", "'s", " e\u0301",
                    ",",  "中文かな", "가", ".",  "\n", "\n",        " (", "x", "=",  "1",           ")",  " ",
                    " `", "y",        "`",  "\r", "\n", "<sentinel", ":",  "7", ">",  "  "}},
    {{"youtu"},
     {"It'S", " ", "1", "2", "3", "4", "5",  "ab", " Hello", "World's",   " e\u0301", ",", "中文かな", "가", ".\n\n",
      " (",   "x", "=", "1", ")", " ", " `", "y",  "`\r\n",  "<sentinel", ":",        "7", ">",        "  "}},
    {{"jais-2"},
     {"It", "'S", " ", "123", "45", "ab", " HelloWorld", "'s",    " e",        "\u0301,", "中文かな가", ".\n\n", " (",
      "x",  "=",  "1", ")",   " ",  " `", "y",           "`\r\n", "<sentinel", ":",       "7",          ">",     "  "}},
    {{"chameleon"},
     {"It", "'",      "S", " ",          "1",  "2",  "3",  "4",        "5", "ab", " HelloWorld", "'", "s",
      " e", "\u0301", ",", "中文かな가", ".",  "\n", "\n", " ",        "(", "x",  "=",           "1", ")",
      "  ", "`",      "y", "`",          "\r", "\n", "<",  "sentinel", ":", "7",  ">",           "  "}},
    {{"kimi-k2"},
     {"It'S", " ", "123", "45", "ab", " Hello", "World's", " e\u0301", ",",         "中文", "かな가", ".\n\n", " (",
      "x",    "=", "1",   ")",  " ",  " `",     "y",       "`\r\n",    "<sentinel", ":",    "7",      ">",     "  "}},
    {{"superbpe"},
     {"It'S ", "12", "345", "ab HelloWorld's e\u0301,中文かな가.\n\n (x=", "1", ")  `y`\r\n<sentinel:", "7", ">  "}},
    {{"bailingmoe", "bailingmoe2", "llada-moe"},
     {"It", "'S", " ", "1", "2", "3", "4",  "5", "ab",    " HelloWorld", "'s", " e", "\u0301,", "中文かな가", ".\n\n",
      " (", "x",  "=", "1", ")", " ", " `", "y", "`\r\n", "<sentinel",   ":",  "7",  ">",       "  "}},
    {{"seed-coder"}, {"It", "'S",      " ",          "1",    "2",         "3",  "4", "5", "ab", " HelloWorld", "'s",
                      " e", "\u0301,", "中文かな가", ".",    "\n\n",      " (", "x", "=", "1",  ")",           " ",
                      " `", "y",       "`",          "\r\n", "<sentinel", ":",  "7", ">", "  "}},
    {{"ufakzeka"},
     {"It", "'S", " ", "1", "2", "3", "4",  "5", "ab",    " HelloWorld", "'s", " e", "\u0301,", "中文かな가", ".\n\n",
      " (", "x",  "=", "1", ")", " ", " `", "y", "`\r\n", "<sentinel",   ":",  "7",  ">",       "  "}},
    {{"afmoe"},
     {"It", "'S", " ", "12", "345", "ab", " HelloWorld", "'s",    " e\u0301",  ",", "中文かな가", ".\n\n", " (",
      "x",  "=",  "1", ")",  " ",   " `", "y",           "`\r\n", "<sentinel", ":", "7",          ">",     "  "}},
    {{"laguna"}, {"It", "'S",      " ",          "1",  "2",         "3",  "4", "5", "ab", " HelloWorld", "'s",
                  " e", "\u0301,", "中文かな가", ".",  "\n\n",      " (", "x", "=", "1",  ")",           " ",
                  " `", "y",       "`\r",        "\n", "<sentinel", ":",  "7", ">", "  "}},
    {{"exaone-moe"},
     {"It", "'S", " ", "1", "2", "3", "4",  "5", "ab HelloWorld", "'s", " e\u0301",  ",中文かな가", ".\n", "\n",
      " (", "x",  "=", "1", ")", " ", " `", "y", "`\r",           "\n", "<sentinel", ":",           "7",   ">",
      "  "}},
    {{"minicpm5"},
     {"It", "'S", " ", "123", "45", "ab", " HelloWorld", "'s",    " e",        "\u0301,", "中文かな가", ".\n\n", " (",
      "x",  "=",  "1", ")",   " ",  " `", "y",           "`\r\n", "<sentinel", ":",       "7",          ">",     "  "}},
};

TEST(PreTokenizers, EveryNameCutsAsItsModel) {
  size_t seen = 0;
  for (const NameRow& row : kNameRows)
    for (const char* name : row.names) {
      EXPECT_EQ(pieces(split_steps(pre_tokenizer_by_name(name)), kText), row.pieces) << name;
      ++seen;
    }
  EXPECT_EQ(seen, pre_tokenizer_names().size());
}

TEST(PreTokenizers, NamesThatTakeWholeTokensAndPutBos) {
  for (const char* name : {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
                           "jina-v5-nano", "tekken"}) {
    EXPECT_TRUE(pre_tokenizer_by_name(name).ignore_merges) << name;
    EXPECT_TRUE(pre_tokenizer_by_name(name).adds_bos) << name;
  }
  for (const char* name : {"glm4", "glm5", "minicpm5", "youtu", "granite-embed-multi-97m"}) {
    EXPECT_TRUE(pre_tokenizer_by_name(name).ignore_merges) << name;
    EXPECT_FALSE(pre_tokenizer_by_name(name).adds_bos) << name;
  }
  EXPECT_TRUE(pre_tokenizer_by_name("chameleon").adds_bos);
  for (const char* name : {"dbrx", "smaug-bpe", "chatglm-bpe", "gpt-4o", "llama4", "qwen2", "chameleon"})
    EXPECT_FALSE(pre_tokenizer_by_name(name).ignore_merges) << name;
}

struct PatternRow {
  const char* pattern;
  const char* text;
  std::vector<std::string> pieces;
};
const PatternRow kPatternRows[] = {
    {"\\h+", "a1 g", {"a1", " g"}},
    {"\\w+", "é_²½ \u0301", {"é_²½", " ", "\u0301"}},
    {"[\\w]+", "é²½", {"é", "²½"}},
    {"\\v+", "\v\f\n", {"\v", "\f\n"}},
    {"\\s", "\u180e\u0085", {"\u180e", "\u0085"}},
    {"\\p{Hiragana}+", "かー", {"か", "ー"}},  // the script, not its extensions
    {"\\p{^Lu}\\P{L}", "aB-", {"aB-"}},
    {"[[:punct:]]+", "a+,b", {"a", "+,", "b"}},
    {"\\p{Punct}+", "a+,b", {"a+", ",", "b"}},
    {"[a-d&&[^b]]+", "abcd", {"a", "b", "cd"}},
    {"[^a-d&&[^b]]+", "abcde", {"a", "b", "cd", "e"}},
    {"[a-c[x-z]]+", "axmz", {"ax", "m", "z"}},
    {"[a-c-e]+", "abd-ez", {"ab", "d", "-e", "z"}},
    {"a{2}+", "aaaaaa", {"aaaaaa"}},
    {"a{2}?", "aaa", {"aa", "a"}},
    {"a{,2}", "aaaab", {"aa", "aa", "b"}},
    {"a{x", "aa{x", {"a", "a{x"}},
    {"a(?i)b|c", "aBCc", {"aB", "Cc"}},
    {"(?i:'s|k)", "'ſ\u212a", {"'ſ", "\u212a"}},
    {".+", "ab\ncd\r", {"ab", "\n", "cd\r"}},
    {"(?m:.+)", "ab\ncd", {"ab\ncd"}},
    {"\\s+$", "  x  \n \n  ", {"  x", "  \n \n  "}},
    {"\\s+$", "a \n\n b", {"a", " \n", "\n b"}},
    {"^a", "a\na", {"a", "\n", "a"}},
    {"\\b", "ab cd", {"ab", " ", "cd"}},
    {"(?<=a|bc)d", "adbcd", {"a", "d", "bc", "d"}},
    {"(?=b)", "abab", {"a", "ba", "b"}},
    {"a++b", "aab", {"aab"}},
    {"", "ab", {"a", "b"}},
};

TEST(PreTokenizers, PatternsMeanWhatTheyMeanToOniguruma) {
  for (const PatternRow& row : kPatternRows)
    EXPECT_EQ(pieces(row.pattern, row.text), row.pieces) << row.pattern << " " << row.text;
}

TEST(PreTokenizers, BytesThatAreNoUtf8AreSignsOfTheirOwn) {
  EXPECT_EQ(pieces("\\p{L}+|[^\\s\\p{L}]+(?:)",
                   "ab\xff\xfe"
                   "cd \xe4\xb8"),
            (std::vector<std::string>{"ab", "\xff\xfe", "cd", " ", "\xe4\xb8"}));
}

TEST(PreTokenizers, Behaviors) {
  const std::pair<const char*, std::vector<std::string>> rows[] = {
      {"Removed", {"a", "b", "c"}},
      {"Isolated", {"a", "-", "-", "b", "-", "c", "-"}},
      {"MergedWithPrevious", {"a-", "-", "b-", "c-"}},
      {"MergedWithNext", {"a", "-", "-b", "-c", "-"}},
      {"Contiguous", {"a", "--", "b", "-", "c", "-"}},
  };
  const std::pair<const char*, std::vector<std::string>> inverted[] = {
      {"Removed", {"-", "-", "-", "-"}},
      {"MergedWithPrevious", {"a", "-", "-b", "-c", "-"}},
      {"MergedWithNext", {"a-", "-", "b-", "c-"}},
  };
  const auto cut = [](const char* behavior, bool invert) {
    const json split = {{"type", "Split"}, {"pattern", {{"String", "-"}}}, {"behavior", behavior}, {"invert", invert}};
    const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
    return pieces(read_pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}), "a--b-c-");
  };
  for (const auto& [behavior, want] : rows) EXPECT_EQ(cut(behavior, false), want) << behavior;
  for (const auto& [behavior, want] : inverted) EXPECT_EQ(cut(behavior, true), want) << behavior;
}

TEST(PreTokenizers, StepsOfOtherTypes) {
  const json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const std::pair<json, std::vector<std::string>> rows[] = {
      {{{"type", "Digits"}, {"individual_digits", false}}, {"a", "12", ", ", "b"}},
      {{{"type", "Digits"}, {"individual_digits", true}}, {"a", "1", "2", ", ", "b"}},
      {{{"type", "Punctuation"}}, {"a12", ",", " b"}},
      {{{"type", "Whitespace"}}, {"a12", ",", "b"}},
      {{{"type", "WhitespaceSplit"}}, {"a12,", "b"}},
      {{{"type", "BertPreTokenizer"}}, {"a12", ",", "b"}},
      {{{"type", "CharDelimiterSplit"}, {"delimiter", "2"}}, {"a1", ", b"}},
      {{{"type", "FixedLength"}, {"length", 4}}, {"a12,", " b"}},
  };
  for (const auto& [step, want] : rows)
    EXPECT_EQ(pieces(read_pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", {step, bytes}}}), "a12, b"), want)
        << step;
}

// After ByteLevel a pattern sees letters: U+00B2 is that of byte b2, and a number.
TEST(PreTokenizers, StepsAfterByteLevelSeeItsLetters) {
  const json steps = {{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}},
                      {{"type", "Digits"}, {"individual_digits", false}}};
  EXPECT_EQ(pieces(read_pre_tokenizer({{"type", "Sequence"}, {"pretokenizers", steps}}), "a\u0432 12"),
            (std::vector<std::string>{"a\xd0", "\xb2", " ", "12"}));
}

// Patterns that would take time without end on a text end in an error that names them, soon.
TEST(PreTokenizers, HostilePatternsEnd) {
  const std::string many(3000, 'a'), spaces(300000, ' ');
  const std::pair<const char*, std::string> rows[] = {
      {"(a+)+b", many},
      {"(a|a)*b", many},
      {"(?:(?:a*)*)*b", many},
      {"(a|aa)+$b", many},
      {"\\s+x", spaces},
      {"\\s+x|\\s+y|z", spaces},
      {"(?:(?=a*b|a*c)a)*d|(?=a*b)c", std::string(100000, 'a')},
  };
  for (const auto& [pattern, text] : rows) {
    const auto start = std::chrono::steady_clock::now();
    try {
      Pattern(pattern).find_all(text);
      ADD_FAILURE() << pattern << " has an end";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_NE(std::string(error.what()).find(pattern), std::string::npos) << error.what();
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60)) << pattern;
  }
}

// Published patterns on what is worst for them stay far from that bound.
TEST(PreTokenizers, PublishedPatternsAreLinear) {
  for (const char* unit : {" ", "a", "A", "1", "aB", "\u0301", "中", "<", " \n", "' "}) {
    std::string text;
    while (text.size() < 100000) text += unit;
    for (const char* name : {"gpt-4o", "deepseek-v3", "kimi-k2", "exaone-moe", "bailingmoe", "youtu", "falcon"})
      EXPECT_NO_THROW(pieces(split_steps(pre_tokenizer_by_name(name)), text + "x")) << name << " " << unit;
  }
}

// llama_gqa with other steps.
std::map<std::string, std::string> files_with(const json& pre) {
  auto files = test::tokenizer_files("llama_gqa");
  json top = json::parse(files["tokenizer.json"]);
  top["pre_tokenizer"] = pre;
  files["tokenizer.json"] = top.dump();
  return files;
}
json split_before_bytes(const json& split) {
  return {{"type", "Sequence"},
          {"pretokenizers", {split, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
}

TEST(PreTokenizersOfFiles, EveryNameBecomesAFolderWithTheSameIds) {
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
  for (const std::string& name : pre_tokenizer_names()) {
    keys.set("tokenizer.ggml.pre", name);
    const auto there = make_tokenizer(keys), back = make_tokenizer(tokenizer_files(keys));
    EXPECT_EQ(back->encode(kText, true, true), there->encode(kText, true, true)) << name;
  }
}

TEST(PreTokenizersOfFiles, StepsWithANameGetIt) {
  for (const char* name : {"gpt-2", "llama-bpe", "dbrx", "glm4", "deepseek-r1-qwen", "gpt-4o", "deepseek-v3", "falcon",
                           "bloom", "tekken", "kimi-k2"}) {
    KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
    keys.set("tokenizer.ggml.pre", std::string(name));
    const bool whole = pre_tokenizer_by_name(name).ignore_merges;
    keys.set("tokenizer.whit.ignore_merges", whole);
    const KeyValues again = tokenizer_metadata(tokenizer_files(keys), 1027);
    EXPECT_EQ(again.string("tokenizer.ggml.pre"), name);
    EXPECT_FALSE(again.has("tokenizer.whit.pre_tokenizer")) << name;
  }
}

TEST(PreTokenizersOfFiles, StepsWithoutANameAreKept) {
  const json pre = split_before_bytes(
      {{"type", "Split"}, {"pattern", {{"Regex", "\\w+|\\s"}}}, {"behavior", "MergedWithNext"}, {"invert", true}});
  const auto files = files_with(pre);
  const auto folder = make_tokenizer(files);
  std::vector<std::string> notes;
  const KeyValues keys = tokenizer_metadata(files, 1027, &notes);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("tokenizer.ggml.pre"), std::string::npos);
  EXPECT_EQ(keys.string("tokenizer.ggml.pre"), "whit-pattern");
  const auto there = make_tokenizer(keys), back = make_tokenizer(tokenizer_files(keys));
  EXPECT_EQ(there->encode(kText, true, true), folder->encode(kText, true, true));
  EXPECT_EQ(back->encode(kText, true, true), folder->encode(kText, true, true));
  EXPECT_NE(folder->encode("ab cd", false, false),
            make_tokenizer(test::tokenizer_files("llama_gqa"))->encode("ab cd", false, false));
}

TEST(PreTokenizersOfFiles, ASpaceBeforePiecesIsKept) {
  json pre = split_before_bytes({{"type", "Digits"}, {"individual_digits", true}});
  pre["pretokenizers"][1]["add_prefix_space"] = true;
  const auto folder = make_tokenizer(files_with(pre));
  const KeyValues keys = tokenizer_metadata(files_with(pre), 1027);
  EXPECT_EQ(folder->decode(folder->encode("ab1", false, false), true), " ab 1");
  EXPECT_EQ(make_tokenizer(keys)->encode("ab1 2", false, false), folder->encode("ab1 2", false, false));
  EXPECT_EQ(make_tokenizer(tokenizer_files(keys))->encode("ab1 2", false, false),
            folder->encode("ab1 2", false, false));
}

TEST(PreTokenizersOfFiles, WithoutANameItIsTheDefaultAndSaysSo) {
  KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
  keys.set("tokenizer.ggml.pre", std::string("default"));
  const auto named = make_tokenizer(keys);
  EXPECT_TRUE(named->notes().empty());
  for (const bool empty : {false, true}) {
    keys.erase("tokenizer.ggml.pre");
    if (empty) keys.set("tokenizer.ggml.pre", std::string());
    const auto unnamed = make_tokenizer(keys);
    EXPECT_EQ(unnamed->encode(kText, true, true), named->encode(kText, true, true));
    ASSERT_EQ(unnamed->notes().size(), 1u);
    EXPECT_NE(unnamed->notes()[0].find("\"default\""), std::string::npos);
  }
}

TEST(PreTokenizersOfFiles, UnknownNamesAreRefusedWithTheNearest) {
  const std::pair<const char*, const char*> rows[] = {
      {"gpt4o", "gpt-4o"}, {"deepseek-v4", "deepseek-v3"}, {"qwen3", "qwen2"}, {"lama-bpe", "llama-bpe"}};
  for (const auto& [unknown, nearest] : rows) {
    KeyValues keys = tokenizer_metadata(test::tokenizer_files("llama_gqa"), 1027);
    keys.set("tokenizer.ggml.pre", std::string(unknown));
    try {
      make_tokenizer(keys);
      ADD_FAILURE() << unknown << " is read";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      EXPECT_NE(std::string(error.what()).find(nearest), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace whit
