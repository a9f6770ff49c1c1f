// Folders that quantizers wrote, against what tools/quantized_folders.py computed of the numbers before it packed them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <tuple>

#include "base/error.h"
#include "base/file.h"
#include "format/folder_formats.h"
#include "format/safetensors.h"
#include "model/spec/model.h"

namespace whit {
namespace {

const std::filesystem::path kData = WHIT_TESTS_DIR "/data";

// [rows, cols] in the folder's order.
std::vector<float> in_folder_order(const TensorView& view) {
  const uint64_t cols = view.shape().cols;
  std::vector<float> rows(view.rows * cols), out(rows.size());
  unpack_rows(view, 0, view.rows, rows);
  for (uint64_t r = 0; r < view.rows; ++r)
    std::copy_n(rows.data() + r * cols, cols, out.data() + view.tensor->stored_row(r) * cols);
  return out;
}

class Quantized : public testing::TestWithParam<const char*> {};

TEST_P(Quantized, MatricesAreWhatTheReferenceFormulaSays) {
  const ModelPtr model = load_model(kData / GetParam());
  const SafetensorsFile expected = SafetensorsFile::open(kData / GetParam() / "expected.safetensors");
  ASSERT_EQ(expected.tensors.size(), 3u);
  const std::pair<const char*, const char*> names[] = {
      {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"}, {"mlp.down_proj", "ffn_down"}};
  for (const auto& [theirs, ours] : names) {
    SCOPED_TRACE(theirs);
    const SafetensorsEntry* entry = expected.find(std::string("model.layers.0.") + theirs + ".weight");
    ASSERT_NE(entry, nullptr);
    const TensorView view = model->need(std::string("blk.0.") + ours + ".weight", {entry->shape[0], entry->shape[1]});
    const std::vector<float> values = in_folder_order(view);
    EXPECT_EQ(std::memcmp(values.data(), entry->data.data(), entry->data.size()), 0);
    std::vector<float> two(2 * entry->shape[1]), all(values.size());
    unpack_rows(view, 5, 2, two);
    unpack_rows(view, 0, view.rows, all);
    EXPECT_TRUE(std::equal(two.begin(), two.end(), all.begin() + static_cast<std::ptrdiff_t>(5 * entry->shape[1])));
    EXPECT_FALSE(view.tensor->format->storable());
    EXPECT_THROW(copy_packed(view), Error);
  }
}

INSTANTIATE_TEST_SUITE_P(Folders, Quantized, testing::Values("llama_gptq", "llama_awq", "llama_f8"),
                         [](const auto& info) { return std::string(info.param); });

TEST(F8, EveryCode) {
  EXPECT_EQ(f8_e4m3_to_float(0), 0.0f);
  EXPECT_EQ(f8_e4m3_to_float(0x01), 0x1p-9f);
  EXPECT_EQ(f8_e4m3_to_float(0x08), 0x1p-6f);
  EXPECT_EQ(f8_e4m3_to_float(0x38), 1.0f);
  EXPECT_EQ(f8_e4m3_to_float(0x7e), 448.0f);
  EXPECT_EQ(f8_e4m3_to_float(0xfe), -448.0f);
  EXPECT_TRUE(std::isnan(f8_e4m3_to_float(0x7f)) && std::isnan(f8_e4m3_to_float(0xff)));
  for (int code = 1; code < 0x7f; ++code)
    EXPECT_GT(f8_e4m3_to_float(static_cast<uint8_t>(code)), f8_e4m3_to_float(static_cast<uint8_t>(code - 1)));
}

// A copy of a folder with a text of one of its files replaced.
class EditedFolder {
 public:
  EditedFolder(const std::string& folder, const std::string& file, const std::string& from, const std::string& to)
      : path_(std::filesystem::path(testing::TempDir()) / "whit_edited") {
    std::filesystem::remove_all(path_);
    std::filesystem::copy(kData / folder, path_);
    std::string text = read_file(path_ / file);
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    write_file(path_ / file, text, true);
  }
  ~EditedFolder() { std::filesystem::remove_all(path_); }
  // What load_model() says.
  std::string error() const {
    try {
      load_model(path_);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::input);
      return error.what();
    }
    return "";
  }

 private:
  std::filesystem::path path_;
};

TEST(Quantized, WhatCannotBeReadIsRefusedByName) {
  const auto says = [](const EditedFolder& folder, const std::string& part) {
    const std::string text = folder.error();
    EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in: " << text;
  };
  says({"llama_gptq", "config.json", "\"bits\": 4", "\"bits\": 3"}, "quantization_config.bits");
  says({"llama_gptq", "config.json", "\"gptq\"", "\"bitsandbytes\""}, "quant_method");
  says({"llama_gptq", "config.json", "\"group_size\": 16", "\"group_size\": 8"}, "qzeros");
  says({"llama_awq", "config.json", "\"gemm\"", "\"gemv\""}, "quantization_config.version");
  says({"llama_gptq", "model.safetensors", "q_proj.scales", "q_proj.scalez"},
       "a part of a quantized tensor is missing");
  says({"llama_gptq", "model.safetensors", "q_proj.g_idx", "q_prok.g_idx"}, "belongs to none");
  says({"llama_f8", "config.json", "[\n      16,\n      16\n    ]", "[16, 32]"}, "the scales do not fit the matrix");
  says({"llama_f8", "model.safetensors.index.json", "mlp.up_proj.weight\"", "mlp.up_proj.weighs\""},
       "a shard lacks a tensor");
  // The second version of GPTQ stores the zero itself: other values, no error.
  EXPECT_EQ(
      EditedFolder("llama_gptq", "config.json", "\"desc_act\": true", "\"checkpoint_format\": \"gptq_v2\"").error(),
      "");
}

// A symmetric grid has its zero at 8: "gptq" stores 7, "gptq_v2" 8, and some writers of 8 say "gptq".
TEST(Quantized, SymmetricZerosAreWhatTheyAre) {
  const auto weights = [](const std::string& keys, char pair) {
    EditedFolder folder("llama_gptq", "config.json", "\"sym\": false", keys);
    const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "whit_edited/model.safetensors";
    std::string text = read_file(path);
    const SafetensorsFile file = SafetensorsFile::open(path);
    for (const SafetensorsEntry& entry : file.tensors)
      if (entry.name.ends_with(".qzeros"))
        std::fill_n(text.begin() + (entry.data.data() - file.file->bytes().data()), entry.data.size(), pair);
    write_file(path, text, true);
    return in_folder_order(load_model(path.parent_path())->find("blk.0.ffn_down.weight"));
  };
  const auto right = weights("\"sym\": true", 0x77);
  EXPECT_EQ(weights("\"sym\": true", static_cast<char>(0x88)), right);
  EXPECT_EQ(weights("\"sym\": true, \"checkpoint_format\": \"gptq_v2\"", static_cast<char>(0x88)), right);
  EXPECT_NE(weights("\"sym\": false", static_cast<char>(0x88)), right);
}

// auto-round names the packing of another tool, and says so of layers that it packed otherwise.
TEST(Quantized, AutoRoundPacksAsOthersDo) {
  const std::string tensor = "blk.0.ffn_down.weight";
  for (const auto& [name, method, packing] : {std::tuple("llama_gptq", "gptq", "auto_round:auto_gptq"),
                                              {"llama_gptq", "gptq", "auto_round:gptq:exllamav2"},
                                              {"llama_awq", "awq", "auto_round:auto_awq"}}) {
    const std::string key = std::string(packing).find("exllama") == std::string::npos ? "packing_format" : "backend";
    const EditedFolder folder(
        name, "config.json", fmt::format("\"{}\"", method),
        fmt::format(R"("auto-round", "{}": "{}", "extra_config": {{"x": {{"bits": 16}}}})", key, packing));
    EXPECT_EQ(folder.error(), "");
    const ModelPtr model = load_model(std::filesystem::path(testing::TempDir()) / "whit_edited");
    EXPECT_EQ(in_folder_order(model->find(tensor)), in_folder_order(load_model(kData / name)->find(tensor)));
    ASSERT_EQ(model->notes.size(), 1u);
    EXPECT_NE(model->notes[0].find("auto-round"), std::string::npos);
  }
  const auto refused = [](const std::string& keys, const std::string& part) {
    const std::string text = EditedFolder("llama_gptq", "config.json", "\"gptq\"", keys).error();
    EXPECT_NE(text.find(part), std::string::npos) << part << " is missing in: " << text;
  };
  refused(R"("auto-round", "packing_format": "auto_round")", "packing_format");  // where the middle lies is not told
  refused(R"("auto-round", "packing_format": "auto_round:llm_compressor")", "packing_format");
  refused(R"("auto-round", "packing_format": "auto_round:auto_gptq", "data_type": "mx_fp")", "data_type");
  refused(R"("auto-round", "packing_format": "auto_round:auto_gptq", "extra_config": {"lm_head": {"bits": 8}})",
          "extra_config");
  refused(R"("gptq", "dynamic": {"+:.*down.*": {"group_size": 64}})", "dynamic");
  EXPECT_EQ(EditedFolder("llama_gptq", "config.json", "\"gptq\"", R"("gptq", "dynamic": {"-:.*none.*": {}})").error(),
            "");
}

// Older packers kept what they did in a file of their own.
TEST(Quantized, OlderFoldersSayItInAnotherFile) {
  for (const auto& [name, file, text] :
       {std::tuple("llama_gptq", "quantize_config.json", R"({"bits": 4, "group_size": 16, "desc_act": true})"),
        {"llama_awq", "quant_config.json",
         R"({"w_bit": 4, "q_group_size": 16, "zero_point": true, "version": "GEMM"})"}}) {
    EditedFolder folder(name, "config.json", "quantization_config", "something_else");
    EXPECT_NE(folder.error(), "");
    const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "whit_edited";
    write_file(path / file, text, false);
    EXPECT_EQ(folder.error(), "");
    const ModelPtr one = load_model(kData / name), two = load_model(path);
    const std::string tensor = "blk.0.ffn_down.weight";
    EXPECT_EQ(in_folder_order(two->find(tensor)), in_folder_order(one->find(tensor)));
  }
}

// The group of an input comes from the file.
TEST(Quantized, HostileGroupsAreFound) {
  EditedFolder folder("llama_gptq", "model.safetensors", "model", "model");
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / "whit_edited/model.safetensors";
  std::string text = read_file(path);
  const SafetensorsFile file = SafetensorsFile::open(path);
  const auto* entry = file.find("model.layers.0.mlp.down_proj.g_idx");
  ASSERT_NE(entry, nullptr);
  const auto at = static_cast<size_t>(entry->data.data() - file.file->bytes().data());
  for (const int32_t bad : {2, -1, 1 << 30}) {
    std::memcpy(text.data() + at, &bad, sizeof(bad));
    write_file(path, text, true);
    EXPECT_NE(folder.error().find("a group that does not exist"), std::string::npos) << bad;
  }
}

}  // namespace
}  // namespace whit
