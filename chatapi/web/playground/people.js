/**
 * The users of the tenant at play, wherever they stand on the page.
 * @module
 */
import { People } from "/sdk/room/people.js";

export const people = new People();

people.follow(document, () => {});
