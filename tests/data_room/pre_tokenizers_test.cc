// Pre-tokenizers: what each value of tokenizer.ggml.pre stands for, patterns as Hugging Face's tokenizers match them,
// and both ways between GGUF and tokenizer.json. What is expected was written by the package `tokenizers`
// (tools/compare_tokenizers.py holds much more against it, and against llama.cpp's reader).
#include <gtest/gtest.h>

#include <chrono>

#include "base/error.h"
#include "data/pre_tokenizers/names.h"
#include "pieces.h"

namespace whit {
namespace {

using test::kText;
using test::pieces;

std::vector<std::string> pieces(const std::string& pattern, const std::string& text) {
  return pieces(std::vector<SplitStep>{{pattern}}, text);
}

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

// Patterns that would take time without end on a text end in an error that names them, soon.
TEST(PreTokenizers, HostilePatternsEnd) {
  // Each has at its end what the pattern asks for, or PCRE2 would not begin.
  const std::string many(300, 'a'), run(10000, 'a'), spaces(10000, ' ');
  const std::pair<const char*, std::string> rows[] = {
      {"(a+)+b", many + "cb"},
      {"(a|a)*b", many + "cb"},
      {"(?:(?:a*)*)*b", many + "cb"},
      {"(a|aa)+$", many + "c"},
      {"\\s+x", spaces + "yx"},
      {"\\s+x|\\s+z", spaces + "yx"},
      {"(?:(?=a*b|a*c)a)*d", run + "bcd"},
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
    while (text.size() < 20000) text += unit;
    for (const char* name : {"gpt-4o", "deepseek-v3", "kimi-k2", "exaone-moe", "bailingmoe", "youtu", "falcon"})
      EXPECT_NO_THROW(pieces(split_steps(pre_tokenizer_by_name(name)), text + "x")) << name << " " << unit;
  }
}

}  // namespace
}  // namespace whit
