//! The languages of models, by name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The languages of a model that translates between several, or of speech.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Languages {
    /// The language of inputs, as the model names it: `en_XX`, `eng_Latn`, `en`. tokenizer_config.json's when absent.
    pub source_lang: Option<String>,
    /// The language of outputs.
    pub target_lang: Option<String>,
}

/// A language without what marks it as a token.
pub(crate) fn bare(name: &str) -> &str {
    let within = |open: &str, close: &str| name.strip_prefix(open).and_then(|name| name.strip_suffix(close));
    within("__", "__").or_else(|| within("<|", "|>")).or_else(|| within(">>", "<<")).unwrap_or(name)
}

/// mBART's languages in the order of their ids; mBART-50 has those of the second list after them (fairseq's `lang_list`).
pub(crate) const MBART: &str = "ar_AR cs_CZ de_DE en_XX es_XX et_EE fi_FI fr_XX gu_IN hi_IN it_IT ja_XX kk_KZ ko_KR \
                                lt_LT lv_LV my_MM ne_NP nl_XX ro_RO ru_RU si_LK tr_TR vi_VN zh_CN";
pub(crate) const MBART_50: &str = "af_ZA az_AZ bn_IN fa_IR he_IL hr_HR id_ID ka_GE km_KH mk_MK ml_IN mn_MN mr_IN pl_PL \
                                   ps_AF pt_XX sv_SE sw_KE ta_IN te_IN th_TH tl_XX uk_UA ur_PK xh_ZA gl_ES sl_SI";
/// M2M100's languages in the order of their ids, which begin after the vocabulary.
pub(crate) const M2M100: &str = "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl \
                                 gu ha he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml \
                                 mn mr ms my ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th \
                                 tl tn tr uk ur uz vi wo xh yi yo zh zu";
/// The same of the WMT 2021 submission (Tran et al., arXiv 2108.03265).
pub(crate) const WMT_21: &str = "en ha is ja cs ru zh de";
/// PLBart's, likewise (Ahmad et al., arXiv 2103.06333).
pub(crate) const PLBART: &str = "java python en_XX";
pub(crate) const PLBART_MULTI: &str = "java python en_XX javascript php ruby go";
