// Elements of the page, and numbers as text.

const byId = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** A number with that many digits behind the point, and with a minus sign instead of a hyphen. */
function number(value, digits) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace('-', '') : text.replace('-', '−');
}

/** A number with three significant digits. */
const short = (value) => Number(value.toPrecision(3)).toString().replace('-', '−');

const plural = (count, what) => `${count} ${what}${count === 1 ? '' : 's'}`;
