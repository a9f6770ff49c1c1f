// The steps of the pipeline one by one: Unicode, splitters, merging, added tokens, streaming.
#include <gtest/gtest.h>

#include <random>

#include "data/added_tokens.h"
#include "data/decoders/byte_level.h"
#include "data/models/bpe.h"
#include "data/models/piece_cache.h"
#include "data/normalizers/unicode_form.h"
#include "data/pre_tokenizers/names.h"
#include "data/pre_tokenizers/splitter.h"
#include "data/tokenizer.h"
#include "data/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace whit {
namespace {

TEST(Unicode, EveryCodePointRoundTrips) {
  for (char32_t value = 0; value < 0x110000; ++value) {
    if (value >= 0xd800 && value < 0xe000) continue;
    std::string text;
    append_utf8(text, value);
    const CodePoint point = next_code_point(text);
    ASSERT_TRUE(point.value == value) << uint32_t{value};
    ASSERT_EQ(point.length, text.size());
    for (size_t cut = 1; cut < text.size(); ++cut)
      ASSERT_EQ(incomplete_utf8_tail(text.substr(0, cut)), cut) << uint32_t{value};
  }
}

TEST(Unicode, BrokenSequences) {
  const std::string mark = "\xef\xbf\xbd";
  const std::pair<std::string, std::string> rows[] = {
      {"a\xff", "a" + mark},
      {"\xe4\xb8", mark},  // cut off: one mark
      {"\xe4\xb8x", mark + "x"},
      {"\xf0\x9f\x98", mark},
      {"\xc0\xaf", mark + mark},  // overlong
      {"\xe0\x80\x80", mark + mark + mark},
      {"\xed\xa0\x80", mark + mark + mark},             // a surrogate
      {"\xf4\x90\x80\x80", mark + mark + mark + mark},  // above U+10FFFF
      {"\x80", mark},
      {"ok", "ok"},
  };
  for (const auto& [bytes, wanted] : rows) EXPECT_EQ(replace_invalid_utf8(bytes), wanted);
  EXPECT_EQ(find_invalid_utf8("ab\xffz"), 2u);
  EXPECT_EQ(find_invalid_utf8("äö"), std::string_view::npos);
}

TEST(Unicode, Classes) {
  EXPECT_EQ(character_class(U'é') & kLetter, kLetter);
  EXPECT_EQ(character_class(U'½') & kNumber, kNumber);
  EXPECT_EQ(character_class(U'Ⅳ') & kNumber, kNumber);
  EXPECT_EQ(character_class(0x3000) & kSpace, kSpace);
  EXPECT_EQ(character_class(0x85) & kSpace, kSpace);
  EXPECT_EQ(character_class(0x180e) & kSpace, 0);    // no white space since Unicode 6.3
  EXPECT_EQ(character_class(0x301), kWord | kMark);  // a combining accent
  EXPECT_EQ(character_class(U'ǅ'), kLetter | kWord | kUpper);
  EXPECT_EQ(character_class(U'ß'), kLetter | kWord | kLower);
  EXPECT_EQ(character_class(U'。'), kPunctuation);
  EXPECT_EQ(character_class(kInvalidCodePoint), 0);
  // The table of ASCII is written by hand.
  for (char32_t value = 0; value < 128; ++value)
    EXPECT_EQ(character_class(value), unicode_detail::class_beyond_ascii(value)) << uint32_t{value};
}

TEST(UnicodeForm, KnownTexts) {
  struct Row {
    std::string text, nfc, nfd, nfkc, nfkd;
  };
  const Row rows[] = {
      {"plain", "plain", "plain", "plain", "plain"},
      {"é", "é", "e\u0301", "é", "e\u0301"},
      {"ae\u0301z", "aéz", "ae\u0301z", "aéz", "ae\u0301z"},
      {"\u1e69", "\u1e69", "s\u0323\u0307", "\u1e69", "s\u0323\u0307"},
      {"s\u0307\u0323", "\u1e69", "s\u0323\u0307", "\u1e69", "s\u0323\u0307"},     // marks change places
      {"\u212b", "Å", "A\u030a", "Å", "A\u030a"},                                  // the sign Ångström
      {"\u0958", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c"},  // excluded from composing
      {"한", "한", "\u1112\u1161\u11ab", "한", "\u1112\u1161\u11ab"},
      {"ﬁ ½", "ﬁ ½", "ﬁ ½", "fi 1\u20442", "fi 1\u20442"},
      {"e\xff\u0301", "e\xff\u0301", "e\xff\u0301", "e\xff\u0301", "e\xff\u0301"},  // nothing across a broken byte
      {"\U0001e037", "\U0001e037", "\U0001e037", "\U0001e037", "\U0001e037"},       // newer than the reference's tables
      {"\U00011935\U00011930", "\U00011935\U00011930", "\U00011935\U00011930", "\U00011935\U00011930",
       "\U00011935\U00011930"},
      {"", "", "", "", ""},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(normalize_unicode(row.text, UnicodeForm::none), row.text);
    EXPECT_EQ(normalize_unicode(row.text, UnicodeForm::nfc), row.nfc) << row.text;
    EXPECT_EQ(normalize_unicode(row.text, UnicodeForm::nfd), row.nfd) << row.text;
    EXPECT_EQ(normalize_unicode(row.text, UnicodeForm::nfkc), row.nfkc) << row.text;
    EXPECT_EQ(normalize_unicode(row.text, UnicodeForm::nfkd), row.nfkd) << row.text;
  }
}

// What the quick look calls normalized is, for every character; and each form is a fixed point of itself.
TEST(UnicodeForm, EveryCharacter) {
  for (char32_t value = 0; value < 0x110000; ++value) {
    if (value >= 0xd800 && value < 0xe000) continue;
    std::string text = "a";
    append_utf8(text, value);
    for (const UnicodeForm form : {UnicodeForm::nfc, UnicodeForm::nfd, UnicodeForm::nfkc, UnicodeForm::nfkd}) {
      const std::string once = normalize_unicode(text + "\u0301", form);
      ASSERT_EQ(normalize_unicode(once, form), once) << uint32_t{value};
      if (value < 0x300 && form == UnicodeForm::nfc) ASSERT_EQ(normalize_unicode(text + "中", form), text + "中");
    }
  }
}

// Marks of two classes by turns: sorting by exchanging neighbours would take 10^10 steps.
TEST(UnicodeForm, LongRunsOfMarks) {
  std::string text = "a";
  for (int i = 0; i < 200000; ++i) text += "\u0315\u0323";
  const std::string nfd = normalize_unicode(text, UnicodeForm::nfd);
  EXPECT_EQ(nfd.size(), text.size());
  EXPECT_EQ(nfd.find("\u0315"), 400001u);
  EXPECT_EQ(nfd.rfind("\u0323"), 399999u);
  EXPECT_TRUE(normalize_unicode(text, UnicodeForm::nfc).starts_with("\u1ea1\u0323"));
}

// A stream shows what a whole decode would, however the bytes are cut.
TEST(Utf8Stream, AnyCutGivesTheSame) {
  const std::string texts[] = {"naïve 日本語 😀 end", "a\xff\xe4\xb8z\xf0\x9f", "", "\xed\xa0\x80", "\xc3\xa9\xc3"};
  for (const std::string& text : texts) {
    for (size_t step = 1; step <= 5; ++step) {
      Utf8Stream stream;
      std::string shown;
      for (size_t at = 0; at < text.size(); at += step) {
        shown += stream.push(std::string_view(text).substr(at, step));
        EXPECT_EQ(find_invalid_utf8(shown), std::string_view::npos);
      }
      shown += stream.finish();
      EXPECT_EQ(shown, replace_invalid_utf8(text)) << step;
    }
  }
}

std::vector<std::string> pieces(Splitter splitter, std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    const size_t length = splitter(text);
    if (length == 0 || length > text.size()) return {"a piece of length " + std::to_string(length)};
    out.emplace_back(text.substr(0, length));
    text.remove_prefix(length);
  }
  return out;
}

// The patterns themselves, run by PCRE2. \s stands for Unicode white space there, as in the engines that defined them.
// What lies between two matches is a piece too.
std::vector<std::string> pieces_by_pattern(std::string pattern, const std::string& text) {
  for (size_t at = 0; (at = pattern.find("\\s", at)) != std::string::npos; ++at)
    pattern.replace(at, 2, "\\p{White_Space}");
  for (size_t at = 0; (at = pattern.find("\\S", at)) != std::string::npos; ++at)
    pattern.replace(at, 2, "\\P{White_Space}");
  int error = 0;
  PCRE2_SIZE where = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.c_str()), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP, &error, &where, nullptr);
  if (!code) return {"pattern refused"};
  pcre2_match_data* match = pcre2_match_data_create_from_pattern(code, nullptr);
  std::vector<std::string> out;
  size_t at = 0;
  while (at < text.size() &&
         pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at, 0, match, nullptr) > 0) {
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match);
    if (bounds[0] > at) out.push_back(text.substr(at, bounds[0] - at));
    out.push_back(text.substr(bounds[0], bounds[1] - bounds[0]));
    at = bounds[1];
  }
  if (at < text.size()) out.push_back(text.substr(at));
  pcre2_match_data_free(match);
  pcre2_code_free(code);
  return out;
}

const std::pair<Splitter, std::string_view> kPatterns[] = {
    {next_piece_gpt2, kGpt2Pattern},   {next_piece_llama3, kLlama3Pattern},
    {next_piece_qwen2, kQwen2Pattern}, {next_piece_tekken, kTekkenPattern},
    {next_piece_digits, "\\p{N}"},     {next_piece_numbers, "\\p{N}+"},
    {next_piece_signs, kSignsPattern}, {next_piece_three_digits, "[0-9][0-9][0-9]"},
    {next_piece_last_spaces, "\\s+(?m:$)"},
};

TEST(Splitters, AgreeWithTheirPatterns) {
  const std::vector<std::string> atoms = {
      "a",      "S",      "s", "t", "T",  "re", "VE", "ll", "'",      " ",      "  ",     "\n", "\r\n", "\t",
      "1",      "23",     "½", ".", "!?", "é",  "中", "ſ",  "\u00a0", "\u3000", "\u0301", "😀",  "'s",   "'D",
      "\u180e", "\u0085", "_", "٣", "B",  "Ǆ",  "ǅ",  "ʰ",  "$",      "|",      "/",      "456"};
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (unsigned count = random() % 16; count > 0; --count) text += atoms[random() % atoms.size()];
    for (const auto& [splitter, pattern] : kPatterns)
      ASSERT_EQ(pieces(splitter, text), pieces_by_pattern(std::string(pattern), text)) << pattern << " " << text;
  }
}

TEST(Splitters, CoverAnyBytes) {
  std::mt19937 random(11);
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (unsigned count = random() % 12; count > 0; --count) text.push_back(static_cast<char>(random()));
    for (const std::string& name : pre_tokenizer_names()) {
      for (const std::string_view pattern : pre_tokenizer_by_name(name).patterns) {
        const Splitter splitter = splitter_by_pattern(pattern);
        if (!splitter) continue;
        std::string joined;
        for (const std::string& piece : pieces(splitter, text)) joined += piece;
        ASSERT_EQ(joined, text) << name;
      }
    }
  }
}

// The plain rule, written as it is defined.
std::vector<int32_t> merge_plainly(const std::vector<Merge>& merges, std::vector<int32_t> symbols) {
  for (;;) {
    const Merge* best = nullptr;
    size_t where = 0;
    for (size_t i = 0; i + 1 < symbols.size(); ++i)
      for (const Merge& merge : merges)
        if (merge.left == symbols[i] && merge.right == symbols[i + 1] && (!best || merge.rank < best->rank))
          best = &merge, where = i;
    if (!best) return symbols;
    symbols[where] = best->result;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(where) + 1);
  }
}

// Random tables, in which a merge may well make a pair of lower rank, and ranks may be equal.
TEST(Bpe, AgreesWithThePlainRule) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    std::vector<Merge> merges;
    for (int32_t left = 0; left < 8; ++left)
      for (int32_t right = 0; right < 8; ++right)
        if (random() % 3 == 0)
          merges.push_back({left, right, static_cast<uint32_t>(random() % 12), static_cast<int32_t>(random() % 8)});
    const Bpe bpe(merges);
    // Long words are merged in another way than short ones.
    std::vector<int32_t> symbols(round % 30 == 0 ? 513 + random() % 500 : random() % 120);
    for (int32_t& symbol : symbols) symbol = static_cast<int32_t>(random() % 4);
    const std::vector<int32_t> wanted = merge_plainly(merges, symbols);
    bpe.merge(symbols);
    ASSERT_EQ(symbols, wanted) << round;
  }
}

TEST(PieceCache, RemembersThousands) {
  std::vector<std::string> texts;
  for (int i = 0; i < 5000; ++i) texts.push_back("piece" + std::to_string(i));
  PieceCache cache;
  for (int i = 0; i < 5000; ++i) {
    EXPECT_FALSE(cache.find(texts[i]));
    cache.add(texts[i], std::vector<int32_t>(i % 3, i));
  }
  for (int i = 0; i < 5000; ++i) {
    const auto ids = cache.find(std::string(texts[i]));
    ASSERT_TRUE(ids);
    EXPECT_EQ(std::vector<int32_t>(ids->begin(), ids->end()), std::vector<int32_t>(i % 3, i));
  }
}

TEST(ByteLevel, AlphabetIsABijection) {
  std::string all;
  for (int byte = 0; byte < 256; ++byte) {
    std::string letter;
    append_utf8(letter, byte_level_letters()[byte]);
    EXPECT_EQ(byte_level_bytes(letter), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(byte_level_bytes("Ġthe"), " the");
  EXPECT_EQ(byte_level_bytes("a b"), "a b");  // a space is no letter of the alphabet: the token stands for itself
}

std::string cut(const AddedTokens& tokens, std::string_view text, bool parse_special) {
  std::string out;
  tokens.split(
      text, parse_special, [&](std::string_view part) { out += "[" + std::string(part) + "]"; },
      [&](int32_t id) { out += std::to_string(id); });
  return out;
}

TEST(AddedTokens, FlagsAndLongestMatch) {
  AddedToken plain{1, "<a>"}, longer{2, "<a><b>"}, special{3, "<s>"}, word{4, "cat"}, greedy{5, "<m>"};
  special.special = true;
  word.single_word = true;
  greedy.lstrip = greedy.rstrip = true;
  const AddedTokens tokens({plain, longer, special, word, greedy});
  EXPECT_EQ(cut(tokens, "x<a>y", true), "[x]1[y]");
  EXPECT_EQ(cut(tokens, "<a><b>", true), "2");
  EXPECT_EQ(cut(tokens, "<a><c>", true), "1[<c>]");
  EXPECT_EQ(cut(tokens, "<s>hi", true), "3[hi]");
  EXPECT_EQ(cut(tokens, "<s>hi", false), "[<s>hi]");
  EXPECT_EQ(cut(tokens, "<a><s>", false), "1[<s>]");
  EXPECT_EQ(cut(tokens, "a cat, concat cats écat", true), "[a ]4[, concat cats écat]");
  EXPECT_EQ(cut(tokens, "x \n<m>\t\u3000 y", true), "[x]5[y]");
  EXPECT_EQ(cut(tokens, "<m> <m>", true), "55");
  EXPECT_EQ(cut(tokens, "", true), "");
  // A token inside white space that another has swallowed.
  AddedToken spaces{6, "  "};
  EXPECT_EQ(cut(AddedTokens({greedy, spaces}), "<m>   x", true), "56[ x]");
  EXPECT_EQ(cut(AddedTokens({}), "abc", true), "[abc]");
}

}  // namespace
}  // namespace whit
