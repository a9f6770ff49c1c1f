// The values of tokenizer.ggml.pre. The patterns are those that the models' own files have (as far as they are known;
// the rest is what llama.cpp, which gave the names, reads): where llama.cpp has a simpler one because of its engine,
// the model was trained with the one here.
#include "data/pre_tokenizers/names.h"

#include "base/error.h"
#include "base/names.h"
#include "data/pre_tokenizers/splitter.h"

namespace whit {
namespace {

using Steps = std::string_view[];

// Parts of patterns.
#define WHIT_ENDINGS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WHIT_SPACES R"(\s*[\r\n]+|\s+(?!\S)|\s+)"
#define WHIT_CAPITALS R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define WHIT_SMALL R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define WHIT_WORD R"([^\r\n\p{L}\p{N}]?)"
// Words that end where small letters are followed by a capital, with their endings.
#define WHIT_CASED_WORDS                                                                                               \
  WHIT_WORD WHIT_CAPITALS "*" WHIT_SMALL "+" WHIT_ENDINGS "?|" WHIT_WORD WHIT_CAPITALS "+" WHIT_SMALL "*" WHIT_ENDINGS \
                          "?|"
#define WHIT_SIGNS R"( ?[^\s\p{L}\p{N}]+)"
#define WHIT_NOT_HAN(letters) "[" letters R"(&&[^\p{Han}]])"
#define WHIT_HAN_CAPITALS WHIT_NOT_HAN(R"(\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M})")
#define WHIT_HAN_SMALL WHIT_NOT_HAN(R"(\p{Ll}\p{Lm}\p{Lo}\p{M})")
#define WHIT_DEEPSEEK_WORDS \
  R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+)"
#define WHIT_GROUPS_OF_THREE R"(\d{1,3}(?=(?:\d{3})*\b))"
#define WHIT_CHINESE_JAPANESE "[一-龥぀-ゟ゠-ヿ]+"

constexpr std::string_view kNumber = R"(\p{N})", kNumbers = R"(\p{N}+)", kThreeNumbers = R"(\p{N}{1,3})";
constexpr std::string_view kThreeDigits = "[0-9][0-9][0-9]", kLines = R"([^\n]+|[\n]+)", kLineEnd = R"([\r\n])";
constexpr std::string_view kChineseJapanese = WHIT_CHINESE_JAPANESE;
constexpr std::string_view kChineseKorean = "[一-龥ࠀ-一가-퟿]+";
constexpr std::string_view kBloomPattern = R"( ?[^(\s|[.,!?…。，、।۔،])]+)";
constexpr std::string_view kGpt4oPattern = WHIT_CASED_WORDS R"(\p{N}{1,3}|)" WHIT_SIGNS R"([\r\n/]*|)" WHIT_SPACES;

constexpr Steps kDefault = {kSignsPattern, kGpt2Pattern, kNumbers, kThreeDigits};
constexpr Steps kGpt2 = {kGpt2Pattern};
constexpr Steps kLlama3 = {kLlama3Pattern};
constexpr Steps kQwen2 = {kQwen2Pattern};
constexpr Steps kTekken = {kTekkenPattern};
constexpr Steps kSmollm = {kNumber, kGpt2Pattern};
constexpr Steps kGpt4o = {kGpt4oPattern};
constexpr Steps kQwen35 = {WHIT_ENDINGS
                           R"(|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)" WHIT_SPACES};
constexpr Steps kFalcon = {R"([\p{P}$+<=>^~|`]+)", kGpt2Pattern, kThreeDigits};
constexpr Steps kBloom = {kBloomPattern};
constexpr Steps kViking = {kBloomPattern, kNumber};
constexpr Steps kDeepseekLlm = {
    kLineEnd,
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)",
    R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)",
    R"(\s+$)",
    kChineseKorean,
    kNumbers};
constexpr Steps kDeepseekCoder = {kLineEnd, R"(\s?\p{L}+)", R"(\s?\p{P}+)", kChineseKorean, kNumber};
constexpr Steps kDeepseekV3 = {kThreeNumbers, kChineseJapanese, WHIT_DEEPSEEK_WORDS R"([\r\n]*|)" WHIT_SPACES};
constexpr Steps kSpark = {kThreeNumbers, kChineseJapanese, WHIT_DEEPSEEK_WORDS R"(|[\r\n]|\s+(?!\S)|\s+)", kNumber};
constexpr Steps kYoutu = {
    "[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" WHIT_CHINESE_JAPANESE,
    WHIT_CASED_WORDS R"(\p{N}|)" WHIT_SIGNS R"([\r\n/]*|)" WHIT_SPACES};
constexpr Steps kJais2 = {WHIT_ENDINGS
                          R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)" WHIT_SIGNS
                          R"([\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|)"
                          R"(\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})"};
constexpr Steps kChameleon = {"<sentinel:[0-9]+>",       "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                              R"(([\t\n]|    |  ))",     kNumber,
                              R"([\p{P}!-/:-@\[-`{-~])", kGpt2Pattern};
constexpr Steps kTinyAya = {WHIT_GROUPS_OF_THREE, kGpt4oPattern};
constexpr Steps kKimi = {R"([\p{Han}]+|)" WHIT_WORD WHIT_HAN_CAPITALS "*" WHIT_HAN_SMALL "+" WHIT_ENDINGS
                         "?|" WHIT_WORD WHIT_HAN_CAPITALS "+" WHIT_HAN_SMALL "*" WHIT_ENDINGS
                         R"(?|\p{N}{1,3}|)" WHIT_SIGNS R"([\r\n]*|)" WHIT_SPACES};
constexpr Steps kSuperbpe = {kNumbers, R"((?=(\d{3})+(?!\d)))"};
constexpr Steps kBailing = {
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"};
constexpr Steps kSeedCoder = {WHIT_ENDINGS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|)" WHIT_SPACES};
constexpr Steps kUfakzeka = {R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)" WHIT_SIGNS R"([\r\n]*|)" WHIT_SPACES};
// Numbers in threes from the right, whatever follows them.
constexpr Steps kAfmoe = {
    R"(\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})))",
    "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+",
    WHIT_DEEPSEEK_WORDS R"([\r\n]*|)" WHIT_SPACES};
constexpr Steps kLaguna = {kLines, kQwen2Pattern};
constexpr Steps kExaoneMoe = {WHIT_ENDINGS R"(|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|)" WHIT_SIGNS
                                           R"([\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"};
constexpr Steps kMinicpm5 = {kThreeNumbers,
                             WHIT_ENDINGS R"(|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+|)" WHIT_SIGNS R"([\r\n]*|)" WHIT_SPACES};

constexpr UnicodeForm kNone = UnicodeForm::none;
constexpr PreTokenizer kRows[] = {
    {"gpt-2", kGpt2},
    {"mpt", kGpt2},
    {"olmo", kGpt2},
    {"phi-2", kGpt2},
    {"jais", kGpt2},
    {"trillion", kGpt2},
    {"granite-docling", kGpt2},
    {"jina-es", kGpt2},
    {"jina-de", kGpt2},
    {"jina-v1-en", kGpt2},
    {"jina-v2-es", kGpt2},
    {"jina-v2-de", kGpt2},
    {"jina-v2-code", kGpt2},
    {"gigachat", kGpt2},
    {"a.x-4.0", kGpt2},
    {"mellum", kGpt2},
    {"modern-bert", kGpt2},
    {"exaone4", kGpt2},
    {"roberta-bpe", kGpt2},
    {"llama-bpe", kLlama3, kNone, true, true},
    {"llama3", kLlama3, kNone, true, true},
    {"llama-v3", kLlama3, kNone, true, true},
    {"falcon3", kLlama3, kNone, true, true},
    {"falcon-h1", kLlama3, kNone, true, true},
    {"pixtral", kLlama3, kNone, true, true},
    {"midm-2.0", kLlama3, kNone, true, true},
    {"lfm2", kLlama3, kNone, true, true},
    {"jina-v5-nano", kLlama3, kNone, true, true},
    {"dbrx", kLlama3},
    {"smaug-bpe", kLlama3},
    {"chatglm-bpe", kLlama3},
    {"glm4", kLlama3, kNone, true},
    {"glm5", kLlama3, kNone, true},
    {"qwen2", kQwen2, UnicodeForm::nfc},
    {"deepseek-r1-qwen", kQwen2},
    {"kormo", kQwen2},
    {"f2llmv2", kQwen2},
    {"megrez", kQwen2},
    {"stablelm2", kQwen2},
    {"hunyuan", kQwen2},
    {"solar-open", kQwen2},
    {"grok-2", kQwen2},
    {"qwen35", kQwen35, UnicodeForm::nfc},
    {"tekken", kTekken, kNone, true, true},
    {"smollm", kSmollm},
    {"starcoder", kSmollm},
    {"refact", kSmollm},
    {"command-r", kSmollm},
    {"codeshell", kSmollm},
    {"exaone", kSmollm},
    {"minerva-7b", kSmollm},
    {"mellum2", kSmollm},
    {"default", kDefault},
    {"gpt-4o", kGpt4o},
    {"llama4", kGpt4o},
    {"kanana2", kGpt4o},
    {"talkie", kGpt4o},
    {"minimax-m2", kGpt4o},
    {"granite-embed-multi-97m", kGpt4o, kNone, true},
    {"tiny_aya", kTinyAya},
    {"cohere2moe", kTinyAya},
    {"falcon", kFalcon},
    {"bloom", kBloom},
    {"poro-chat", kBloom},
    {"gpt3-finnish", kBloom},
    {"viking", kViking},
    {"deepseek-llm", kDeepseekLlm},
    {"deepseek-coder", kDeepseekCoder},
    {"deepseek-v3", kDeepseekV3},
    {"hunyuan-dense", kDeepseekV3},
    {"joyai-llm", kDeepseekV3},
    {"hy_v4", kDeepseekV3},
    {"spark2_5", kSpark},
    {"youtu", kYoutu, kNone, true},
    {"jais-2", kJais2},
    {"chameleon", kChameleon, kNone, false, true},
    {"kimi-k2", kKimi},
    {"superbpe", kSuperbpe},
    {"bailingmoe", kBailing},
    {"bailingmoe2", kBailing},
    {"llada-moe", kBailing},
    {"seed-coder", kSeedCoder},
    {"ufakzeka", kUfakzeka},
    {"afmoe", kAfmoe},
    {"laguna", kLaguna},
    {"exaone-moe", kExaoneMoe},
    {"minicpm5", kMinicpm5, kNone, true},
};

// Names for vocabularies whose tokens are not letters that stand for bytes.
constexpr std::string_view kOtherAlphabets[] = {"gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"};

}  // namespace

const PreTokenizer& pre_tokenizer_by_name(std::string_view name) {
  for (const PreTokenizer& row : kRows)
    if (name == row.name) return row;
  for (const std::string_view other : kOtherAlphabets)
    if (name == other)
      throw Error(ErrorKind::input, "the tokenizer's pre-tokenizer is one for tokens that are no byte-level letters",
                  "tokenizer.ggml.pre", std::string(name));
  throw Error(ErrorKind::input, "the tokenizer's pre-tokenizer is not a known one", "tokenizer.ggml.pre",
              std::string(name), suggest_name(name, pre_tokenizer_names()));
}

std::vector<SplitStep> split_steps(const PreTokenizer& pre) {
  std::vector<SplitStep> steps;
  for (const std::string_view pattern : pre.patterns) steps.push_back({std::string(pattern)});
  return steps;
}

const PreTokenizer* pre_tokenizer_by_steps(const std::vector<SplitStep>& steps, UnicodeForm form, bool ignore_merges) {
  const PreTokenizer* best = nullptr;
  int most = -1;
  for (const PreTokenizer& row : kRows) {
    if (split_steps(row) != steps) continue;
    const int alike = 2 * (row.ignore_merges == ignore_merges) + (row.form == form);
    if (alike > most) best = &row, most = alike;
  }
  return best;
}

std::vector<std::string> pre_tokenizer_names() {
  std::vector<std::string> names;
  for (const PreTokenizer& row : kRows) names.emplace_back(row.name);
  return names;
}

}  // namespace whit
