//! What Florence-2 is asked: tasks in brackets, each of which stands for a sentence, and what its answers hold beside text.
//!
//! processing_florence2.py of transformers 5.23; microsoft's files have the same tables in preprocessor_config.json.

mod answer;

use checkpoint::names::{PREPROCESSOR_CONFIG, PROCESSOR_CONFIG};
use checkpoint::{CheckpointError, Files};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use answer::Answer;

/// Stands for what is asked about, in sentences.
const INPUT: &str = "{input}";

/// A task without an input, its sentence, and what its answers hold.
const ALONE: [(&str, &str, &str); 8] = [
    ("<OCR>", "What is the text in the image?", "pure_text"),
    ("<OCR_WITH_REGION>", "What is the text in the image, with regions?", "ocr"),
    ("<CAPTION>", "What does the image describe?", "pure_text"),
    ("<DETAILED_CAPTION>", "Describe in detail what is shown in the image.", "pure_text"),
    ("<MORE_DETAILED_CAPTION>", "Describe with a paragraph what is shown in the image.", "pure_text"),
    ("<OD>", "Locate the objects with category name in the image.", "description_with_bboxes"),
    ("<DENSE_REGION_CAPTION>", "Locate the objects in the image, with their descriptions.", "description_with_bboxes"),
    ("<REGION_PROPOSAL>", "Locate the region proposals in the image.", "bboxes"),
];
/// The same of tasks with one.
const WITH_INPUT: [(&str, &str, &str); 7] = [
    ("<CAPTION_TO_PHRASE_GROUNDING>", "Locate the phrases in the caption: {input}", "phrase_grounding"),
    ("<REFERRING_EXPRESSION_SEGMENTATION>", "Locate {input} in the image with mask", "polygons"),
    ("<REGION_TO_SEGMENTATION>", "What is the polygon mask of region {input}", "polygons"),
    ("<OPEN_VOCABULARY_DETECTION>", "Locate {input} in the image.", "description_with_bboxes_or_polygons"),
    ("<REGION_TO_CATEGORY>", "What is the region {input}?", "pure_text"),
    ("<REGION_TO_DESCRIPTION>", "What does the region {input} describe?", "pure_text"),
    ("<REGION_TO_OCR>", "What text is in the region {input}?", "pure_text"),
];

/// The tasks of a model.
#[derive(Debug)]
pub struct Tasks {
    tasks: Vec<Task>,
    /// Phrases that stand for nothing in an image.
    banned: Vec<String>,
}

#[derive(Debug)]
struct Task {
    /// In brackets.
    name: String,
    sentence: String,
    answer: Answer,
}

/// The tables of preprocessor_config.json.
#[derive(Default, Deserialize)]
struct Tables {
    #[serde(default)]
    tasks_answer_post_processing_type: serde_json::Map<String, Value>,
    #[serde(default)]
    task_prompts_without_inputs: serde_json::Map<String, Value>,
    #[serde(default)]
    task_prompts_with_input: serde_json::Map<String, Value>,
}

impl Tasks {
    /// Those that a checkpoint's files list, else those of transformers. Errors: lists that are not what they should be.
    pub fn of(files: &Files) -> Result<Tasks, CheckpointError> {
        let tables = files.json::<Tables>(PREPROCESSOR_CONFIG)?.unwrap_or_default();
        let settings = files.json::<Value>(PROCESSOR_CONFIG)?.unwrap_or_default();
        let banned = settings.pointer("/post_processor_config/phrase_grounding/banned_grounding_tokens");
        let banned = banned.and_then(Value::as_array).into_iter().flatten();
        let banned = banned.filter_map(|word| word.as_str().map(str::to_owned)).collect();
        let listed = tables.task_prompts_without_inputs.iter().chain(&tables.task_prompts_with_input);
        let wrong = |name: &str, found: &Value, expected: &str| {
            let message = format!("{name} = {found}, expected {expected}");
            CheckpointError::malformed(&files.path(PREPROCESSOR_CONFIG), message)
        };
        let mut tasks = Vec::new();
        for (name, sentence) in listed {
            let found = tables.tasks_answer_post_processing_type.get(name).unwrap_or(&Value::Null);
            let answer = found.as_str().and_then(Answer::called);
            let answer = answer.ok_or_else(|| wrong(name, found, &format!("one of {}", Answer::known())))?;
            let sentence = sentence.as_str().ok_or_else(|| wrong(name, sentence, "a sentence"))?.to_owned();
            tasks.push(Task { name: name.clone(), sentence, answer });
        }
        if tasks.is_empty() {
            let own = |(name, sentence, answer): &(&str, &str, &str)| Task {
                name: (*name).to_owned(),
                sentence: (*sentence).to_owned(),
                answer: Answer::called(answer).expect("one of the table's own words"),
            };
            tasks = ALONE.iter().chain(&WITH_INPUT).map(own).collect();
        }
        Ok(Tasks { tasks, banned })
    }

    /// The task that a prompt names. Errors: a word in brackets at its beginning that is none, with those that are.
    fn task(&self, prompt: &str) -> Result<Option<&Task>, String> {
        if let Some(task) = self.tasks.iter().find(|task| prompt.contains(&task.name)) {
            return Ok(Some(task));
        }
        let word = prompt.strip_prefix('<').and_then(|rest| rest.split_once('>')).map(|(word, _)| word);
        let is_task = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
        match word.filter(is_task) {
            Some(word) => {
                let known: Vec<&str> = self.tasks.iter().map(|task| task.name.as_str()).collect();
                Err(format!("no task is called <{word}>; expected a question, or one of {}", known.join(", ")))
            }
            None => Ok(None),
        }
    }

    /// The sentence that a prompt stands for; of one that names no task, itself.
    ///
    /// Errors: a task that is not known; an input of a task that takes none, or none of one that does; an answer in polygons.
    pub fn sentence(&self, prompt: &str) -> Result<String, String> {
        let Some(task) = self.task(prompt)? else { return Ok(prompt.to_owned()) };
        let input = prompt.replace(&task.name, "");
        let name = &task.name;
        if task.answer == Answer::Polygons {
            return Err(format!("{name} is answered with polygons, which are not read; boxes are, as those of <OD>"));
        }
        match (task.sentence.contains(INPUT), input.trim()) {
            (false, _) if input.is_empty() => Ok(task.sentence.clone()),
            (false, input) => Err(format!("{name} takes no input, found {input:?}")),
            (true, "") => Err(format!("{name} expects after it what it is about, found nothing")),
            (true, input) => Ok(task.sentence.replace(INPUT, input)),
        }
    }

    /// What an answer to a prompt says, by the prompt's task, as transformers' `post_process_generation` has it. `text`: with all tokens
    /// of the answer; `size`: the image's width and height. `None` where the prompt names no task.
    ///
    /// Errors: an answer in polygons.
    pub fn told(&self, prompt: &str, text: &str, size: [usize; 2]) -> Result<Option<Value>, String> {
        let Some(task) = self.task(prompt)? else { return Ok(None) };
        let told = task.answer.read(text, size, &self.banned)?;
        Ok(Some(Value::Object([(task.name.clone(), told)].into_iter().collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(file: &str, json: &str) -> Result<Tasks, String> {
        let home = tempfile::tempdir().expect("temporary folder");
        std::fs::write(home.path().join(file), json).expect("written");
        Tasks::of(&Files::folder(home.path())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_task_stands_for_its_sentence_and_what_is_none_is_named() {
        let tasks = tasks(PREPROCESSOR_CONFIG, "{}").expect("transformers' own");
        let sentence = |prompt: &str| tasks.sentence(prompt);
        assert_eq!(sentence("<OD>"), Ok("Locate the objects with category name in the image.".to_owned()));
        assert_eq!(
            sentence("<REGION_TO_OCR> <loc_1><loc_2><loc_3><loc_4>"),
            Ok("What text is in the region <loc_1><loc_2><loc_3><loc_4>?".to_owned())
        );
        assert_eq!(sentence("Who is it?"), Ok("Who is it?".to_owned()));
        assert_eq!(sentence("<loc_7> is what?"), Ok("<loc_7> is what?".to_owned()));
        assert_eq!(sentence("<OD> cats"), Err("<OD> takes no input, found \"cats\"".to_owned()));
        assert_eq!(
            sentence("<REGION_TO_OCR>"),
            Err("<REGION_TO_OCR> expects after it what it is about, found nothing".to_owned())
        );
        assert_eq!(
            sentence("<REGION_TO_SEGMENTATION><loc_1>"),
            Err("<REGION_TO_SEGMENTATION> is answered with polygons, which are not read; boxes are, as those of <OD>"
                .to_owned())
        );
        let unknown = sentence("<FIND> cats").expect_err("no task");
        assert!(unknown.starts_with("no task is called <FIND>; expected a question, or one of <OCR>, "), "{unknown}");
    }

    #[test]
    fn prompts_and_answers_are_what_transformers_makes_of_them() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/images/tasks.json");
        let recorded: Value = serde_json::from_slice(&std::fs::read(file).expect("recorded")).expect("JSON");
        let banned = serde_json::json!({"phrase_grounding": {"banned_grounding_tokens": recorded["banned"]}});
        let settings = serde_json::json!({ "post_processor_config": banned }).to_string();
        let tasks = tasks(PROCESSOR_CONFIG, &settings).expect("transformers' own");
        let sentences = recorded["sentences"].as_object().expect("sentences");
        for (prompt, sentence) in sentences {
            assert_eq!(tasks.sentence(prompt).as_deref(), Ok(sentence.as_str().expect("a sentence")), "{prompt}");
        }
        let answers = recorded["answers"].as_array().expect("answers");
        for answer in answers {
            let word = |key: &str| answer[key].as_str().expect("a word");
            let size = [0, 1].map(|i| answer["size"][i].as_u64().expect("a length") as usize);
            let told = tasks.told(word("task"), word("text"), size).expect("no polygons");
            assert_eq!(told.as_ref(), Some(&answer["told"]), "{answer}");
        }
        assert!(sentences.len() >= 14 && answers.len() >= 90, "{} and {}", sentences.len(), answers.len());
        let polygons = tasks.told("<OPEN_VOCABULARY_DETECTION>a cat", "cat<poly><loc_1></poly>", [9, 9]);
        assert_eq!(polygons, Err("the answer has polygons, which are not read".to_owned()));
        assert_eq!(tasks.told("Who is it?", "a cat", [9, 9]), Ok(None));
    }

    #[test]
    fn tasks_that_a_checkpoint_lists_are_all_that_it_has() {
        let json = r#"{"tasks_answer_post_processing_type": {"<SAY>": "pure_text"}, "task_prompts_without_inputs": {"<SAY>": "Say."}}"#;
        let own = tasks(PREPROCESSOR_CONFIG, json).expect("a table");
        assert_eq!(own.sentence("<SAY>"), Ok("Say.".to_owned()));
        assert!(own.sentence("<OD>").is_err());
        let wrong = tasks(PREPROCESSOR_CONFIG, &json.replace("pure_text", "song")).expect_err("no such answer");
        assert!(wrong.contains("<SAY> = \"song\", expected one of pure_text, ocr, "), "{wrong}");
    }
}
