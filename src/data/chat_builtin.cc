// Templates of our own for models that bring none: the forms that most models were trained with. Texts and system
// messages are trimmed or not as the models' own templates do it.
#include <algorithm>

#include "data/chat.h"

namespace whit {
namespace {

struct Builtin {
  std::string_view name, jinja;
};

// Messages of all roles in turns of their own.
constexpr Builtin kBuiltin[] = {
    {"chatml",
     R"({% for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{{ '' }}{% endif %})"},
    {"qwen3",
     R"({% for message in messages %}
<|im_start|>{{ message.role }}
{{ message.content.split('</think>')[-1].lstrip('\n') if message.role == 'assistant' else message.content }}<|im_end|>
{% endfor %}
{% if add_generation_prompt %}
<|im_start|>assistant
{{ '<think>\n\n</think>\n\n' if enable_thinking is false else '' }}{% endif %})"},
    {"llama2",
     R"({% set ns = namespace(system='') %}
{% for message in messages %}
{% if message.role == 'system' and loop.first %}
{% set ns.system = '<<SYS>>\n' + message.content + '\n<</SYS>>\n\n' %}
{% elif message.role == 'user' %}
{{ '<s>[INST] ' + (ns.system + message.content).strip() + ' [/INST]' }}
{%- set ns.system = '' %}
{% elif message.role == 'assistant' %}
{{ ' ' + message.content.strip() + ' </s>' }}
{%- else %}
{{ raise_exception('A system message comes first, then user and assistant.') }}
{% endif %}
{% endfor %})"},
    {"llama3",
     R"({{ bos_token | default('<|begin_of_text|>') }}
{%- for message in messages %}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %})"},
    {"mistral-v1",
     R"({% set ns = namespace(system='') %}
<s>
{%- for message in messages %}
{% if message.role == 'system' and loop.first %}
{% set ns.system = message.content + '\n\n' %}
{% elif message.role == 'user' %}
{{- ' [INST] ' + ns.system + message.content + ' [/INST]' }}
{%- set ns.system = '' %}
{% elif message.role == 'assistant' %}
{{- ' ' + message.content + '</s>' }}
{%- else %}
{{ raise_exception('A system message comes first, then user and assistant.') }}
{% endif %}
{% endfor %})"},
    {"mistral-v3",
     R"({% set ns = namespace(system='') %}
<s>
{%- for message in messages %}
{% if message.role == 'system' and loop.first %}
{% set ns.system = message.content + '\n\n' %}
{% elif message.role == 'user' %}
{{- '[INST] ' + (ns.system if loop.last else '') + message.content + '[/INST]' }}
{%- elif message.role == 'assistant' %}
{{- ' ' + message.content | trim + '</s>' }}
{%- else %}
{{ raise_exception('A system message comes first, then user and assistant.') }}
{% endif %}
{% endfor %})"},
    {"gemma",
     R"({% set ns = namespace(system='') %}
{{ bos_token | default('<bos>') }}
{%- for message in messages %}
{% if message.role == 'system' and loop.first %}
{% set ns.system = message.content + '\n\n' %}
{% elif message.role in ['user', 'assistant'] %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\n' }}
{{- ns.system + message.content | trim + '<end_of_turn>\n' }}
{%- set ns.system = '' %}
{% else %}
{{ raise_exception('A system message comes first, then user and assistant.') }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{- '<start_of_turn>model\n' }}
{%- endif %})"},
    {"phi3",
     R"({% for message in messages %}
{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{ '<|assistant|>\n' }}
{%- endif %})"},
    {"phi4",
     R"({% for message in messages %}
{{ '<|im_start|>' + message.role + '<|im_sep|>' + message.content + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{ '<|im_start|>assistant<|im_sep|>' }}
{%- endif %})"},
    {"zephyr",
     R"({% for message in messages %}
{{ '<|' + message.role + '|>\n' + message.content + '</s>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{ '<|assistant|>\n' }}
{%- endif %})"},
};

}  // namespace

std::vector<std::string> builtin_chat_templates() {
  std::vector<std::string> names;
  for (const Builtin& builtin : kBuiltin) names.emplace_back(builtin.name);
  return names;
}

std::string_view builtin_chat_template(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kBuiltin), std::end(kBuiltin), [&](const Builtin& b) { return b.name == name; });
  return found == std::end(kBuiltin) ? std::string_view() : found->jinja;
}

}  // namespace whit
