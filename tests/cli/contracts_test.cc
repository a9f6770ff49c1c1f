// What machines read: keys and values of the JSON, ids and logits against the fixtures, the same from every executor.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "base/options.h"
#include "cli/program.h"
#include "format/safetensors.h"

namespace whit {
namespace {

const std::string tests = WHIT_TESTS_DIR;
const std::string stories = tests + "/data/models/stories260K.gguf";
const std::vector<std::string> fixtures = {"llama_gqa", "llama2_sentencepiece", "llama31_rope", "llama_tied_smollm"};

Json parse_output(const Outcome& outcome) {
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  const Json json = Json::parse(outcome.out, nullptr, false);
  EXPECT_FALSE(json.is_discarded()) << outcome.out.substr(0, 300);
  return json;
}

std::set<std::string> keys(const Json& json) {
  std::set<std::string> names;
  for (const auto& [key, value] : json.items()) names.insert(key);
  return names;
}

// 1,000 words of what stories260K knows, made up here.
std::string story() {
  const char* const lines[] = {
      "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.",
      "One day, she saw a big red ball. \"Can I play with it?\" she asked her mom. Her mom said yes.",
      "Lily was very happy. She ran to the ball and kicked it high in the sky.",
      "Then a small dog came. The dog wanted to play too. They played all day and became friends.",
      "When the sun went down, Lily said goodbye to the dog and went home with her mom."};
  std::string text;
  for (int i = 0; i < 12; ++i)
    for (const char* line : lines) text += std::string(line) + (i % 3 ? " " : "\n");
  return text;
}

TEST(Inspect, Json) {
  const Json json = parse_output(call_whit({"inspect", stories, "--json"}));
  EXPECT_EQ(keys(json), (std::set<std::string>{"architecture", "weights", "file_bytes", "file_bits_per_weight",
                                               "integrity", "notes", "tensors"}));
  EXPECT_EQ(json["architecture"], "llama");
  EXPECT_EQ(json["integrity"], "absent");
  EXPECT_EQ(json["file_bytes"], std::filesystem::file_size(stories));
  uint64_t weights = 0, bytes = 0;
  for (const Json& tensor : json["tensors"]) {
    EXPECT_EQ(keys(tensor), (std::set<std::string>{"name", "shape", "format", "bytes", "bits_per_weight"}));
    uint64_t count = 1;
    for (const Json& size : tensor["shape"]) count *= size.get<uint64_t>();
    EXPECT_EQ(tensor["bytes"].get<uint64_t>(), 4 * count);
    EXPECT_EQ(tensor["bits_per_weight"], 32.0);
    EXPECT_EQ(tensor["format"], "f32");
    weights += count;
    bytes += tensor["bytes"].get<uint64_t>();
  }
  EXPECT_EQ(json["weights"], weights);
  EXPECT_DOUBLE_EQ(json["file_bits_per_weight"].get<double>(),
                   8.0 * static_cast<double>(std::filesystem::file_size(stories)) / static_cast<double>(weights));
}

// What a paper counts stands beside what is stored, and what is stored is told part by part.
#ifdef WHIT_LEARN
TEST(Inspect, PaperBitsBesideTheStoredOnes) {
  const std::string file = testing::TempDir() + "whit_paper_bits.gguf";
  const Outcome made = call_whit({"compress", stories, "--preset", "stbllm-4:8", "--data", tests + "/../docs/cli.md",
                                  "--calibration-tokens", "512", "--context", "64", "--force", "-o", file});
  ASSERT_EQ(made.code, 0) << made.error;
  const Json json = parse_output(call_whit({"inspect", file, "--json"}));
  const Outcome text = call_whit({"inspect", file});
  std::filesystem::remove(file);
  EXPECT_NE(text.out.find("as the paper counts"), std::string::npos) << text.out;
  size_t seen = 0;
  for (const Json& tensor : json["tensors"]) {
    if (!tensor["name"].get<std::string>().starts_with("blk.") || !tensor.contains("parts")) {
      EXPECT_FALSE(tensor.contains("paper_bits"));
      continue;
    }
    ++seen;
    uint64_t bytes = 0;
    for (const auto& [part, size] : tensor["parts"].items()) bytes += size.get<uint64_t>();
    EXPECT_EQ(bytes, tensor["bytes"].get<uint64_t>());
    EXPECT_TRUE(tensor["parts"].contains("mask"));
    EXPECT_GT(tensor["paper_bits"].get<double>(), 0.5);
    EXPECT_LT(tensor["paper_bits"].get<double>(), 1.0);
    EXPECT_GT(tensor["bits_per_weight"].get<double>(), 3.0);
  }
  EXPECT_EQ(seen, 20u);  // four units in each of five blocks
}
#endif

TEST(Inspect, TokenizeAgreesWithTheFixtures) {
  for (const std::string& fixture : fixtures) {
    const std::string folder = tests + "/data/" + fixture;
    const Json reference = Json::parse(read_all(folder + "/reference.json"));
    size_t checked = 0;
    for (const Json& item : reference["tokenize"]) {
      if (++checked > 6) break;  // all of them are the tokenizers' own test; here it is the way through the program
      const Json json =
          parse_output(call_whit({"inspect", folder, "--tokenize", "-", "--json"}, item["text"].get<std::string>()));
      EXPECT_EQ(json["ids"], item["ids"]) << fixture << item["text"];
      EXPECT_EQ(json["ids_no_special"], item["ids_no_special"]) << fixture << item["text"];
      EXPECT_EQ(json["decoded"], item["decoded"]) << fixture << item["text"];
    }
  }
}

// Each kind of damage is named, with exit code 6 and nothing else believed.
TEST(Inspect, DamageIsNamed) {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "copy.gguf").string();
  const Outcome made = call_whit({"compress", stories, "--preset", "copy-f16", "-o", file});
  if (made.error.find("lean build") != std::string::npos) GTEST_SKIP() << "the lean build writes no files";
  ASSERT_EQ(made.code, 0) << made.error;
  EXPECT_EQ(parse_output(call_whit({"inspect", file, "--json"}))["integrity"], "ok");
  const std::string whole = read_all(file);
  for (const auto& [from_end, expected] :
       {std::pair<size_t, const char*>{1000, "tensor"}, {whole.size() - 40, "header"}}) {
    std::string damaged = whole;
    damaged[damaged.size() - from_end] ^= 4;
    const Outcome outcome = call_whit({"inspect", folder.file("damaged.gguf", damaged), "--json"});
    EXPECT_EQ(outcome.code, 6) << outcome.error;
    const Json json = Json::parse(outcome.out, nullptr, false);
    ASSERT_TRUE(json.is_object()) << outcome.out;
    const std::string part = json["integrity"];
    if (std::string(expected) == "header")
      EXPECT_EQ(part, "header");
    else
      EXPECT_TRUE(part.ends_with(".weight")) << part;
    EXPECT_TRUE(json["weights"].is_null());
  }
}

TEST(Run, GreedyIdsAgreeWithTheFixtures) {
  for (const std::string& fixture : fixtures) {
    const std::string folder = tests + "/data/" + fixture;
    const auto greedy = Json::parse(read_all(folder + "/reference.json"))["greedy_ids"].get<std::vector<int32_t>>();
    const std::vector<int32_t> prompt(greedy.begin(), greedy.begin() + 8), expected(greedy.begin() + 8, greedy.end());
    const Json json = parse_output(
        call_whit({"run", folder, "--ids", "-", "--json", "--temp", "0", "-n", std::to_string(expected.size())},
                  Json(prompt).dump()));
    EXPECT_EQ(keys(json), (std::set<std::string>{"ids", "end", "prompt_tokens", "prompt_seconds", "answer_tokens",
                                                 "answer_seconds"}));
    EXPECT_EQ(json["ids"], Json(expected)) << fixture;
  }
}

TEST(Run, RawPrintsNothingButTheText) {
  const Outcome raw = call_whit({"run", stories, "--raw", "-p", "Once upon a time", "-n", "20", "--temp", "0"});
  ASSERT_EQ(raw.code, 0) << raw.error;
  const Json json =
      parse_output(call_whit({"run", stories, "--raw", "-p", "Once upon a time", "-n", "20", "--temp", "0", "--json"}));
  EXPECT_EQ(json["text"], raw.out);
  EXPECT_EQ(json["ids"].size(), 20u);
  EXPECT_NE(raw.error.find("tokens/s"), std::string::npos);
  EXPECT_EQ(call_whit({"run", stories, "--raw", "-p", "Once upon a time", "-n", "20", "--temp", "0", "--quiet"}).error,
            "");
}

TEST(Run, TheSeedDecides) {
  const auto text = [](const std::string& seed) {
    return call_whit({"run", stories, "--raw", "-p", "Once", "-n", "30", "--temp", "1", "--seed", seed}).out;
  };
  EXPECT_EQ(text("1"), text("1"));
  EXPECT_NE(text("1"), text("2"));
}

// 1.05, for a file below 5 bits a weight 1.1, and none where a text is continued.
TEST(Run, ThePenaltyFollowsTheFile) {
  const auto ids = [](const std::string& model, std::vector<std::string> more) {
    std::vector<std::string> words = {"run", model, "-p", "Once upon a time", "-n", "60", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return parse_output(call_whit(words))["ids"];
  };
  const std::string small = tests + "/data/golden/stories260K-grid3-v1.gguf", chat = "--template", form = "chatml";
  for (const auto& [model, penalty, other] :
       {std::tuple{stories, "1.05", "1.1"}, std::tuple{small, "1.1", "1.05"}}) {
    EXPECT_EQ(ids(model, {chat, form}), ids(model, {chat, form, "--repeat-penalty", penalty})) << model;
    EXPECT_NE(ids(model, {chat, form}), ids(model, {chat, form, "--repeat-penalty", other})) << model;
  }
  EXPECT_EQ(ids(stories, {"--raw"}), ids(stories, {"--raw", "--repeat-penalty", "1"}));
}

TEST(Run, StopStringsAreNotShown) {
  const Outcome outcome =
      call_whit({"run", stories, "--raw", "-p", "Once upon a time", "-n", "200", "--temp", "0", "--stop", "."});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out.find('.'), std::string::npos);
  EXPECT_NE(outcome.error.find("a stop string came"), std::string::npos);
}

TEST(Run, AFullContextIsSaid) {
  const Outcome outcome =
      call_whit({"run", stories, "--raw", "-p", "Once upon a time", "-n", "0", "--context", "32", "--temp", "0"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_NE(outcome.error.find("the context is full"), std::string::npos) << outcome.error;
}

TEST(Run, ChatTakesLinesAndForgets) {
  const Outcome outcome =
      call_whit({"run", stories, "--template", "chatml", "-n", "5", "--context", "160", "--temp", "0"},
                "Hello\nHow are you, little girl?\nWhat do you see in the park?\n/reset\nHello\n/exit\nnever\n");
  EXPECT_EQ(outcome.code, 0) << outcome.error;
  EXPECT_EQ(std::count(outcome.out.begin(), outcome.out.end(), '\n'), 4) << outcome.out;
  EXPECT_NE(outcome.error.find("forgotten"), std::string::npos) << outcome.error;
}

class Eval : public testing::Test {
 protected:
  TemporaryFolder folder;
  const std::string text = folder.file("story.txt", story());
};

TEST_F(Eval, Json) {
  const Json json = parse_output(
      call_whit({"eval", stories, stories, "--text", text, "--against", stories, "--context", "128", "--json"}));
  ASSERT_EQ(json["rows"].size(), 2u);
  const Json& row = json["rows"][0];
  for (const char* key : {"model", "file_bytes", "file_bits_per_weight", "activations", "context", "windows",
                          "perplexity_half", "perplexity_half_error", "perplexity_all", "kl_mean", "kl_mean_error",
                          "kl_median", "kl_p99", "same_top", "tokens_per_second", "peak_bytes"})
    EXPECT_TRUE(row.contains(key) && !row[key].is_null()) << key;
  EXPECT_EQ(row["model"], stories);
  EXPECT_EQ(row["activations"], "fp32");
  EXPECT_EQ(row["context"], 128);
  EXPECT_EQ(row["kl_mean"], 0.0);
  EXPECT_EQ(row["same_top"], 1.0);
  // A trained model on its own kind of text.
  EXPECT_LT(row["perplexity_half"].get<double>(), 20);
  EXPECT_GT(row["perplexity_half"].get<double>(), 2);
  EXPECT_TRUE(row["paired"].is_null());
  EXPECT_EQ(json["rows"][1]["paired"]["kl_difference"], 0.0);
}

TEST_F(Eval, WithoutABaseThereIsNoDivergence) {
  const Json json =
      parse_output(call_whit({"eval", stories, "--text", text, "--context", "64", "--chunks", "2", "--json"}));
  const Json& row = json["rows"][0];
  for (const char* key : {"kl_mean", "kl_mean_error", "kl_median", "kl_p99", "same_top"})
    EXPECT_TRUE(row.at(key).is_null()) << key;
  EXPECT_EQ(row["windows"], 2);
  EXPECT_TRUE(json["base"].is_null());
}

#ifdef WHIT_LEARN
TEST_F(Eval, BothExecutorsAgree) {
  std::vector<double> perplexity;
  for (const char* executor : {"runtime", "torch"}) {
    const Json json = parse_output(
        call_whit({"eval", stories, "--text", text, "--context", "128", "--executor", executor, "--json"}));
    EXPECT_EQ(json["rows"][0]["executor"], executor);
    perplexity.push_back(json["rows"][0]["perplexity_all"]);
  }
  EXPECT_NEAR(perplexity[0], perplexity[1], 1e-4 * perplexity[0]);
}
#endif

TEST_F(Eval, DumpedLogitsAgreeWithTheFixtures) {
  std::vector<std::string> executors = {"runtime"};
#ifdef WHIT_LEARN
  executors.push_back("torch");
#endif
  for (const std::string& fixture : fixtures)
    for (const std::string& executor : executors) {
      const std::string model = tests + "/data/" + fixture, out = (folder.path() / (fixture + executor)).string();
      const SafetensorsFile reference = SafetensorsFile::open(model + "/reference.safetensors");
      const auto* ids = reference.find("input_ids");
      const auto* logits = reference.find("logits");
      ASSERT_TRUE(ids && logits);
      std::vector<int64_t> list(ids->data.size() / 8);
      std::memcpy(list.data(), ids->data.data(), ids->data.size());
      const Outcome outcome =
          call_whit({"eval", model, "--ids", "-", "--dump-logits", out, "--executor", executor}, Json(list).dump());
      ASSERT_EQ(outcome.code, 0) << outcome.error;
      const SafetensorsFile dumped = SafetensorsFile::open(out);
      ASSERT_EQ(dumped.tensors.size(), 1u);
      const auto& found = dumped.tensors[0];
      EXPECT_EQ(found.name, "logits");
      EXPECT_EQ(found.dtype, "F32");
      EXPECT_EQ(found.shape, (std::vector<uint64_t>{logits->shape[1], logits->shape[2]}));
      ASSERT_EQ(found.data.size(), logits->data.size());
      const size_t count = found.data.size() / 4;
      std::vector<float> a(count), b(count);
      std::memcpy(a.data(), found.data.data(), 4 * count);
      std::memcpy(b.data(), logits->data.data(), 4 * count);
      double sum = 0, squares = 0, most = 0;
      for (size_t i = 0; i < count; ++i) {
        sum += b[i];
        squares += static_cast<double>(b[i]) * b[i];
        most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
      }
      const double mean = sum / static_cast<double>(count);
      // The reference of llama31_rope was computed with inverse frequencies rounded to bfloat16 (the executors' own
      // tests put those in and keep the bound). Here, as a user has it, they are exact: the second one differs
      // by 1.9e-4, which is an angle of 0.009 at the last position, and the logits move by up to 0.5 % of their
      // deviation.
      const double bound = fixture == "llama31_rope" ? 1e-2 : 2e-4;
      EXPECT_LT(most, bound * std::sqrt(squares / static_cast<double>(count) - mean * mean))
          << fixture << " " << executor;
    }
}

TEST(Formats, ListAndDescribe) {
  const Json list = parse_output(call_whit({"formats", "list", "--json"}))["formats"];
  std::set<std::string> wanted = {"name",  "summary", "label",   "shape",  "bits_per_weight",
                                  "bytes", "parts",   "options", "runs_by"};
#ifdef WHIT_LEARN
  wanted.insert({"quantizers", "learned"});
#endif
  std::set<std::string> decoded;
  for (const Json& row : list) {
    EXPECT_EQ(keys(row), wanted) << row;
    uint64_t bytes = 0;
    for (const Json& part : row["parts"]) bytes += part["bytes"].get<uint64_t>();
    EXPECT_EQ(row["bytes"], bytes);
    EXPECT_EQ(row["bits_per_weight"].get<double>(), 8.0 * static_cast<double>(bytes) / (4096.0 * 4096)) << row["name"];
    if (row["runs_by"] != "kernels") decoded.insert(row["name"]);
  }
  EXPECT_EQ(decoded, (std::set<std::string>{"tq1_0", "nm_grid", "nm_f16", "binary_groups"}));

  const std::vector<std::string> grid = {"formats", "describe", "grid",    "--set", "bits=3",
                                         "--set",   "group=64", "--shape", "8x1024"};
  Json one = parse_output(call_whit([&] {
    std::vector<std::string> call = grid;
    call.push_back("--json");
    return call;
  }()));
  EXPECT_EQ(one["label"], "grid3-g64-s8");
  EXPECT_EQ(one["bits_per_weight"],
            3 + 16.0 / 64 + 32.0 / 1024);  // codes, scale and minimum of 8 bits, two halves a row
  EXPECT_EQ(one["options"][0]["name"], "bits");
  EXPECT_EQ(one["options"][0]["value"], 3);
  EXPECT_EQ(one["options"][0]["default"], "4");
  const Outcome text = call_whit(grid);
  for (const char* part : {"3.2812 bits per weight of a 8 x 1024 matrix", "kernels", "codes", "parameter_bits"})
    EXPECT_NE(text.out.find(part), std::string::npos) << part << "\n" << text.out;
#ifdef WHIT_LEARN
  EXPECT_EQ(one["quantizers"], (Json{"rtn", "gptq"}));
  EXPECT_EQ(one["learned"], true);
  one = parse_output(call_whit({"formats", "describe", "mxfp4", "--json"}));
  EXPECT_EQ(one["quantizers"], Json::array());
  EXPECT_EQ(one["learned"], true);
#endif
  const Outcome table = call_whit({"formats"});
  for (const Json& row : list)
    EXPECT_NE(table.out.find("\n" + row["name"].get<std::string>() + " "), std::string::npos) << row["name"];
}

#ifdef WHIT_LEARN
// Each preset's card is one line, and its help names it in its group.
TEST(Presets, HaveCardsInTwoGroups) {
  const Json rows = parse_output(call_whit({"methods", "presets", "--json"}))["presets"];
  const std::string table = call_whit({"methods", "presets"}).out, help = call_whit({"compress", "--help"}).out;
  EXPECT_GE(rows.size(), 12u);
  EXPECT_EQ(rows[0]["group"], "everyday");
  EXPECT_EQ(rows.back()["group"], "research");
  for (const Json& row : rows) {
    const std::string name = row["name"], group = row["group"], text = row["summary"];
    EXPECT_TRUE(group == "everyday" || group == "research") << name << ": " << group;
    EXPECT_TRUE(text.size() > 10 && text.size() <= 200 && text.find('\n') == std::string::npos) << name << ": " << text;
    EXPECT_NE(table.find(name), std::string::npos) << name;
    EXPECT_NE(help.find(name), std::string::npos) << name;
  }
  EXPECT_LT(help.find("everyday:"), help.find("research:"));
}
#endif

TEST(Bench, Json) {
  const Json json = parse_output(
      call_whit({"bench", stories, "--prompt", "32", "--decode", "8", "--repeats", "1", "--threads", "1,2", "--json"}));
  ASSERT_EQ(json["rows"].size(), 4u);
  for (const Json& row : json["rows"])
    for (const char* key :
         {"threads", "activations", "prompt_tokens_per_second", "decode_tokens_per_second", "bandwidth_share"})
      EXPECT_TRUE(row.contains(key) && !row[key].is_null()) << key;
}

TEST_F(Eval, ReportFromResults) {
  const Outcome judged =
      call_whit({"eval", stories, "--text", text, "--against", stories, "--context", "64", "--json"});
  ASSERT_EQ(judged.code, 0);
  const std::string eval = folder.file("eval.json", judged.out), answer = folder.file("answer.txt", "<b>once</b> \xff");
  const std::string out = (folder.path() / "report").string();
  const std::vector<std::string> arguments = {
      "report", "--eval", eval, "--model", stories, "--answer", stories + "=" + answer, "--prompt", "Tell", "-o", out};
  ASSERT_EQ(call_whit(arguments).code, 0);
  for (const char* name : {"index.html", "picture.svg", "results.json"})
    EXPECT_FALSE(read_all(out + "/" + name).empty()) << name;
  EXPECT_EQ(call_whit(arguments).code, 5);  // nothing is overwritten
  const std::string page = read_all(out + "/index.html"), results = read_all(out + "/results.json");
  EXPECT_NE(page.find("&lt;b&gt;once&lt;/b&gt;"), std::string::npos);
  // Drawn anew from its own results: the same files.
  ASSERT_EQ(call_whit({"report", out + "/results.json", "-o", out, "--force"}).code, 0);
  EXPECT_EQ(read_all(out + "/index.html"), page);
  EXPECT_EQ(read_all(out + "/results.json"), results);
}

}  // namespace
}  // namespace whit
