/**
 * The colours and controls of the chat, for the page around it too. It runs before the first paint.
 * @module
 */
import { CONTROLS } from "/sdk/room/controls-style.js";

const sheet = new CSSStyleSheet();

sheet.replaceSync(`@layer controls { ${CONTROLS} }`); // the page's own style sheets come before it, and may still differ
document.adoptedStyleSheets.push(sheet);
