// Models of odd numbers: widths of 65, a vocabulary of one, rows of zeros, weights that are not finite.
#include "format/safetensors.h"
#include "pipeline/models.h"

namespace whit {
namespace {

using namespace tests;

struct Shape {
  uint64_t width = 65, heads = 3, head_size = 14, feed_forward = 67, vocabulary = 1027, layers = 2;
};
// Changes a tensor after it was drawn: its name, rows and columns.
using Change = std::function<void(const std::string&, std::span<float>, uint64_t cols)>;

class OddNumbers : public ModelJobs {
 protected:
  // A Llama of that shape with drawn weights, as a folder; the tokenizer of llama_gqa, or one that knows "a" alone.
  void make_model(const Shape& shape, const Change& change = nullptr) {
    model_ = folder_ / "model";
    std::filesystem::create_directories(model_);
    Json config = Json::parse(read_file(kData / "llama_gqa/config.json"));
    config["hidden_size"] = shape.width;
    config["num_attention_heads"] = config["num_key_value_heads"] = shape.heads;
    config["head_dim"] = shape.head_size;
    config["intermediate_size"] = shape.feed_forward;
    config["vocab_size"] = shape.vocabulary;
    config["num_hidden_layers"] = shape.layers;
    write_file(model_ / "config.json", config.dump(), true);
    write_file(model_ / "tokenizer.json",
               shape.vocabulary == 1 ? tokenizer_of_one() : read_file(kData / "llama_gqa/tokenizer.json"), true);

    std::vector<SafetensorsOutput> tensors;
    uint64_t seed = 0;
    const auto add = [&](const std::string& name, std::vector<uint64_t> dimensions) {
      const uint64_t cols = dimensions.back(), rows = dimensions.size() == 1 ? 1 : dimensions.front();
      std::vector<float> values(rows * cols);
      Rng rng(++seed);
      for (float& value : values)
        value = dimensions.size() == 1 ? 1.0F : static_cast<float>(2 * rng.normal() / std::sqrt(static_cast<double>(cols)));
      if (change) change(name, values, cols);
      tensors.push_back({name, std::move(dimensions), [values](const auto& sink) { sink(values); }});
    };
    const uint64_t inner = shape.heads * shape.head_size;
    add("model.embed_tokens.weight", {shape.vocabulary, shape.width});
    add("lm_head.weight", {shape.vocabulary, shape.width});
    add("model.norm.weight", {shape.width});
    for (uint64_t layer = 0; layer < shape.layers; ++layer) {
      const std::string block = "model.layers." + std::to_string(layer) + ".";
      add(block + "input_layernorm.weight", {shape.width});
      add(block + "post_attention_layernorm.weight", {shape.width});
      for (const char* name : {"q", "k", "v"}) add(block + "self_attn." + name + "_proj.weight", {inner, shape.width});
      add(block + "self_attn.o_proj.weight", {shape.width, inner});
      for (const char* name : {"gate", "up"}) add(block + "mlp." + name + "_proj.weight", {shape.feed_forward, shape.width});
      add(block + "mlp.down_proj.weight", {shape.width, shape.feed_forward});
    }
    write_safetensors(model_ / "model.safetensors", tensors, true);
  }
};

TEST_F(OddNumbers, WidthsOfNoFormat) {
  make_model({});
  expect_presets(every_preset());
}

TEST_F(OddNumbers, RowsOfZerosAndOfOneNumber) {
  make_model({}, [](const std::string& name, std::span<float> values, uint64_t cols) {
    if (name.find("proj") == std::string::npos) return;
    std::fill_n(values.begin(), cols, 0.0F);
    std::fill_n(values.begin() + static_cast<int64_t>(cols), cols, 0.125F);
    if (name.find("layers.1.mlp.up") != std::string::npos) std::fill(values.begin(), values.end(), 0.0F);
  });
  expect_presets(every_preset());
}

TEST_F(OddNumbers, AVocabularyOfOne) {
  make_model({.vocabulary = 1});
  write_file(folder_ / "text.txt", std::string(600, 'a'), true);
  for (const char* name : {"copy-f16", "rtn-3", "gptq-3", "lowrank-1.0"}) {
    SCOPED_TRACE(name);
    const CompressRequest job = request(preset_recipe(name), "out.gguf");
    run(job);
    ThreadPool pool(1);
    const auto scorer = make_runtime(load_model(job.output), pool);
    const auto session = scorer->open(4);
    const std::vector<int32_t> ids(4, 0);
    session->feed(ids, 0, [](size_t, std::span<const float> row) {
      ASSERT_EQ(row.size(), 1U);
      EXPECT_TRUE(std::isfinite(row[0]));
    });
  }
}

// The least that calibration takes: of so little the statistics are singular.
TEST_F(OddNumbers, TwoTokensOfCalibration) {
  make_model({});
  for (const char* name : {"gptq-3", "lowrank-1.0", "sparsegpt-4-8", "stbllm-4-8", "rotated-2"}) {
    SCOPED_TRACE(name);
    CompressRequest job = request(preset_recipe(name), "out.gguf");
    job.recipe.calibrate.tokens = 2;
    job.recipe.calibrate.context = 2;
    expect_whole(job);
  }
}

// `work` fails because of a number in that tensor, and writes nothing.
template <class Work>
void expect_named(const Work& work, const std::string& tensor, const std::filesystem::path& output) {
  try {
    work();
    ADD_FAILURE() << output << " was made";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric) << error.what();
    EXPECT_NE(error.where().find(tensor), std::string::npos) << error.what();
  }
  EXPECT_FALSE(std::filesystem::exists(output));
  std::filesystem::remove_all(output.string() + ".journal");
}

// Whoever stumbles over a weight that is no number says in which tensor it is, not where its trace was found first.
TEST_F(OddNumbers, WeightsThatAreNotFiniteAreNamed) {
  for (const auto& [tensor, named] : {std::pair("model.layers.1.mlp.up_proj.weight", "blk.1.ffn_up.weight"),
                                      {"model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight"}})
    for (const float odd : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      make_model({}, [&, tensor = tensor](const std::string& name, std::span<float> values, uint64_t) {
        if (name == tensor) values[64] = odd;
      });
      for (const char* preset : {"rtn-3", "gptq-3", "lowrank-1.0", "rotated-2"}) {
        if (preset == std::string("rtn-3") && named == std::string("blk.0.attn_norm.weight")) continue;  // never looks at it
        SCOPED_TRACE(std::string(preset) + " " + tensor);
        const CompressRequest job = request(preset_recipe(preset), "out.gguf");
        expect_named([&] { run(job); }, named, job.output);
      }
      write_file(folder_ / "text.txt", tests::toy_text(7, 9000), true);
      const TuneRequest training = tests::toy_tuning(model_, model_, folder_, "tuned.gguf", 1024);
      SilentProgress silent;
      expect_named([&] { tune(training, silent); }, named, training.output);
    }
}

}  // namespace
}  // namespace whit
